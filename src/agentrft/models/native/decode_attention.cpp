// Attention of single tokens over their sequences' cached keys and values, and what writes those.

#include "common.h"
#include "decode_float.h"

using namespace agentrft;

namespace {

constexpr std::int64_t AHEAD = 32;  // tokens between what is computed and what is fetched
constexpr int MOST_QUERIES = 4;     // that one sweep over the keys serves

#if HAS_BF16_DOT

// The processor's own prefetching stops at the end of each of the system's pages, of which ours of a head has two to four.
inline void fetch(const bf16* from, std::int64_t elements) {
    for (std::int64_t i = 0; i < elements; i += 32) _mm_prefetch(reinterpret_cast<const char*>(from + i), _MM_HINT_T0);
}

// `then` is what is read after the last page.
template <int QUERIES>
void score(const Cached<bf16>& keys, std::int64_t length, const bf16* query, float* scores, std::int64_t stride,
           const bf16* then) {
    const std::int64_t chunks = keys.head_dim / 32;
    for (std::int64_t start = 0; start < length; start += keys.page_tokens) {
        const bf16* key = keys.page(start / keys.page_tokens);
        const std::int64_t end = std::min(start + keys.page_tokens, length);
        const bf16* next = end < length ? keys.page(start / keys.page_tokens + 1) : then;
        for (std::int64_t token = start; token < end; ++token, key += keys.head_dim) {
            const std::int64_t beyond = token + AHEAD - end;
            fetch(beyond < 0 ? key + AHEAD * keys.head_dim : next + beyond * keys.head_dim, keys.head_dim);
            __m512 sums[QUERIES];
            for (int q = 0; q < QUERIES; ++q) sums[q] = _mm512_setzero_ps();
            for (std::int64_t chunk = 0; chunk < chunks; ++chunk) {
                const __m512bh part = (__m512bh)_mm512_loadu_si512(key + 32 * chunk);
                for (int q = 0; q < QUERIES; ++q) {
                    const __m512bh own = (__m512bh)_mm512_loadu_si512(query + q * keys.head_dim + 32 * chunk);
                    sums[q] = _mm512_dpbf16_ps(sums[q], part, own);
                }
            }
            for (int q = 0; q < QUERIES; ++q) scores[q * stride + token] = _mm512_reduce_add_ps(sums[q]);
        }
    }
}

// `CHUNKS` x 32 of the head's dimensions, starting at `first`. Even and odd dimensions are summed apart, because
// widening them apart is one instruction each.
template <int QUERIES, int CHUNKS>
void mix(const Cached<bf16>& values, std::int64_t length, const float* weights, std::int64_t stride, const float* scale,
         std::int64_t first, bf16* out) {
    const __m512i odd_bits = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
    __m512 even[QUERIES][CHUNKS], odd[QUERIES][CHUNKS];
    for (int q = 0; q < QUERIES; ++q)
        for (int c = 0; c < CHUNKS; ++c) even[q][c] = odd[q][c] = _mm512_setzero_ps();
    for (std::int64_t start = 0; start < length; start += values.page_tokens) {
        const bf16* value = values.page(start / values.page_tokens) + first;
        const std::int64_t end = std::min(start + values.page_tokens, length);
        const bf16* next = end < length ? values.page(start / values.page_tokens + 1) + first : value;
        for (std::int64_t token = start; token < end; ++token, value += values.head_dim) {
            const std::int64_t beyond = token + AHEAD - end;
            fetch(beyond < 0 ? value + AHEAD * values.head_dim : next + beyond * values.head_dim, 32 * CHUNKS);
            __m512 low[CHUNKS], high[CHUNKS];
            for (int c = 0; c < CHUNKS; ++c) {
                const __m512i part = _mm512_loadu_si512(value + 32 * c);
                low[c] = _mm512_castsi512_ps(_mm512_slli_epi32(part, 16));
                high[c] = _mm512_castsi512_ps(_mm512_and_si512(part, odd_bits));
            }
            for (int q = 0; q < QUERIES; ++q) {
                const __m512 weight = _mm512_set1_ps(weights[q * stride + token]);
                for (int c = 0; c < CHUNKS; ++c) {
                    even[q][c] = _mm512_fmadd_ps(weight, low[c], even[q][c]);
                    odd[q][c] = _mm512_fmadd_ps(weight, high[c], odd[q][c]);
                }
            }
        }
    }
    for (int q = 0; q < QUERIES; ++q) {
        const __m512 factor = _mm512_set1_ps(scale[q]);
        for (int c = 0; c < CHUNKS; ++c) {
            const __m512i low = narrow16(_mm512_mul_ps(even[q][c], factor));
            const __m512i high = narrow16(_mm512_mul_ps(odd[q][c], factor));
            const __m512i both = _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
            _mm512_storeu_si512(out + q * values.head_dim + first + 32 * c, both);
        }
    }
}

template <int QUERIES>
void mix_all(const Cached<bf16>& values, std::int64_t length, const float* weights, std::int64_t stride, const float* scale,
             bf16* out) {
    std::int64_t first = 0;
    for (; first + 64 <= values.head_dim; first += 64)
        mix<QUERIES, 2>(values, length, weights, stride, scale, first, out);
    if (first < values.head_dim) mix<QUERIES, 1>(values, length, weights, stride, scale, first, out);
}

#else

template <int QUERIES>
void score(const Cached<bf16>& keys, std::int64_t length, const bf16* query, float* scores, std::int64_t stride,
           const bf16*) {
    for (std::int64_t start = 0; start < length; start += keys.page_tokens) {
        const bf16* key = keys.page(start / keys.page_tokens);
        const std::int64_t end = std::min(start + keys.page_tokens, length);
        for (std::int64_t token = start; token < end; ++token, key += keys.head_dim)
            for (int q = 0; q < QUERIES; ++q) {
                const bf16* own = query + q * keys.head_dim;
                float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
                for (std::int64_t i = 0; i < keys.head_dim; ++i) sum += widen(key[i]) * widen(own[i]);
                scores[q * stride + token] = sum;
            }
    }
}

template <int QUERIES>
void mix_all(const Cached<bf16>& values, std::int64_t length, const float* weights, std::int64_t stride, const float* scale,
             bf16* out) {
    std::vector<float> sums(QUERIES * values.head_dim, 0.0f);
    for (std::int64_t start = 0; start < length; start += values.page_tokens) {
        const bf16* value = values.page(start / values.page_tokens);
        const std::int64_t end = std::min(start + values.page_tokens, length);
        for (std::int64_t token = start; token < end; ++token, value += values.head_dim)
            for (int q = 0; q < QUERIES; ++q) {
                const float weight = weights[q * stride + token];
                float* sum = sums.data() + q * values.head_dim;
#pragma omp simd
                for (std::int64_t i = 0; i < values.head_dim; ++i) sum[i] += weight * widen(value[i]);
            }
    }
    for (int q = 0; q < QUERIES; ++q)
        for (std::int64_t i = 0; i < values.head_dim; ++i)
            out[q * values.head_dim + i] = narrow(sums[q * values.head_dim + i] * scale[q]);
}

#endif

inline bf16 scaled(bf16 value, float factor) { return narrow(widen(value) * factor); }
inline float scaled(float value, float factor) { return value * factor; }

// Attention of `QUERIES` scaled queries [QUERIES, head_dim] of one sequence that share a key-value head.
template <int QUERIES, class T>
void attend_together(const Cached<T>& keys, const Cached<T>& values, std::int64_t length, const T* query, T* out) {
    static thread_local std::vector<float> scores;
    const std::int64_t stride = (length + FLOAT_TOKENS - 1) / FLOAT_TOKENS * FLOAT_TOKENS;
    scores.resize(QUERIES * stride);
    score<QUERIES>(keys, length, query, scores.data(), stride, values.page(0));
    float scale[QUERIES];
    for (int q = 0; q < QUERIES; ++q) {
        float* own = scores.data() + q * stride;
        float highest = own[0];
#pragma omp simd reduction(max : highest)
        for (std::int64_t i = 0; i < length; ++i) highest = std::max(highest, own[i]);
        float total = 0.0f;
#pragma omp simd reduction(+ : total)
        for (std::int64_t i = 0; i < length; ++i) {
            own[i] = exponential(own[i] - highest);
            total += own[i];
        }
        scale[q] = 1.0f / total;
    }
    mix_all<QUERIES>(values, length, scores.data(), stride, scale, out);
}

// See `attend_bf16`.
template <class T>
void attend(const T* query, std::int64_t query_stride, const T* keys, const T* values, std::int64_t page_stride,
            const std::int64_t* table, std::int64_t table_stride, const std::int64_t* length, T* out,
            std::int64_t sequences, std::int64_t heads, std::int64_t kv_heads, std::int64_t page_tokens,
            std::int64_t head_dim, float scaling) {
    const std::int64_t group = heads / kv_heads;
#pragma omp parallel for schedule(dynamic, 2)
    for (std::int64_t task = 0; task < sequences * kv_heads; ++task) {
        const std::int64_t sequence = task / kv_heads, head = task % kv_heads;
        const std::int64_t* pages = table + sequence * table_stride;
        const Cached<T> own_keys{keys, page_stride, pages, page_tokens, head_dim, head};
        const Cached<T> own_values{values, page_stride, pages, page_tokens, head_dim, head};
        static thread_local std::vector<T> rows;
        rows.resize(group * head_dim);
        const T* own = query + sequence * query_stride + head * group * head_dim;
        for (std::int64_t i = 0; i < group * head_dim; ++i) rows[i] = scaled(own[i], scaling);
        T* result = out + (sequence * heads + head * group) * head_dim;
        for (std::int64_t first = 0; first < group; first += MOST_QUERIES) {
            const T* part = rows.data() + first * head_dim;
            T* target = result + first * head_dim;
            switch (std::min<std::int64_t>(MOST_QUERIES, group - first)) {
                case 1: attend_together<1>(own_keys, own_values, length[sequence], part, target); break;
                case 2: attend_together<2>(own_keys, own_values, length[sequence], part, target); break;
                case 3: attend_together<3>(own_keys, own_values, length[sequence], part, target); break;
                default: attend_together<4>(own_keys, own_values, length[sequence], part, target);
            }
        }
    }
}

}  // namespace

extern "C" {

// Keys and values of new tokens into a paged cache, of any type of number. key and value are [tokens, kv_heads, head_dim]
// with a stride between tokens; page of each token, and place in it, are given. A row is one token's of one head. Strides
// and rows are in bytes.
void store(const char* key, const char* value, std::int64_t key_stride, std::int64_t value_stride, char* keys,
           char* values, std::int64_t page_stride, const std::int64_t* page, const std::int64_t* place,
           std::int64_t tokens, std::int64_t kv_heads, std::int64_t page_tokens, std::int64_t key_row,
           std::int64_t value_row) {
#pragma omp parallel for schedule(static) if (tokens * kv_heads * key_row >= 2 * PARALLEL_FROM)
    for (std::int64_t token = 0; token < tokens; ++token)
        for (std::int64_t head = 0; head < kv_heads; ++head) {
            const std::int64_t row = head * page_tokens + place[token], start = page[token] * page_stride;
            std::memcpy(keys + start + row * key_row, key + token * key_stride + head * key_row, key_row);
            std::memcpy(values + start + row * value_row, value + token * value_stride + head * value_row, value_row);
        }
}

// Pages of one sequence to out [kv_heads, pages, block]: what one head has in a page is a block of so many bytes.
void gather(const char* cache, std::int64_t page_stride, const std::int64_t* table, std::int64_t pages,
            std::int64_t kv_heads, std::int64_t block, char* out) {
#pragma omp parallel for collapse(2) schedule(static) if (pages * kv_heads * block >= 2 * PARALLEL_FROM)
    for (std::int64_t head = 0; head < kv_heads; ++head)
        for (std::int64_t page = 0; page < pages; ++page)
            std::memcpy(out + (head * pages + page) * block, cache + table[page] * page_stride + head * block, block);
}

// Attention of one token of each sequence over the first `length` of its cached keys and values; its pages are its row of
// `table`. query is [sequences, heads, head_dim] with a stride between sequences; out is contiguous. head_dim is a multiple
// of 32.
void attend_bf16(const bf16* query, std::int64_t query_stride, const bf16* keys, const bf16* values,
                 std::int64_t page_stride, const std::int64_t* table, std::int64_t table_stride,
                 const std::int64_t* length, bf16* out, std::int64_t sequences, std::int64_t heads,
                 std::int64_t kv_heads, std::int64_t page_tokens, std::int64_t head_dim, float scaling) {
    attend<bf16>(query, query_stride, keys, values, page_stride, table, table_stride, length, out, sequences, heads,
                 kv_heads, page_tokens, head_dim, scaling);
}

// The same in float32; head_dim is a multiple of 8, page_tokens of `FLOAT_TOKENS`.
void attend_float(const float* query, std::int64_t query_stride, const float* keys, const float* values,
                  std::int64_t page_stride, const std::int64_t* table, std::int64_t table_stride,
                  const std::int64_t* length, float* out, std::int64_t sequences, std::int64_t heads,
                  std::int64_t kv_heads, std::int64_t page_tokens, std::int64_t head_dim, float scaling) {
    attend<float>(query, query_stride, keys, values, page_stride, table, table_stride, length, out, sequences, heads,
                  kv_heads, page_tokens, head_dim, scaling);
}
}
