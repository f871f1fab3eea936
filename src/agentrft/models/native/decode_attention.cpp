// Attention of single tokens over their sequences' cached keys and values, and what writes those.

#include "common.h"

using namespace agentrft;

namespace {

constexpr std::int64_t AHEAD = 32;  // tokens between what is computed and what is fetched
constexpr int MOST_QUERIES = 4;     // that one sweep over the keys serves

#if HAS_BF16_DOT

// The processor's own prefetching stops at the end of every page, and blocks are only two pages long.
inline void fetch(const bf16* from, std::int64_t elements) {
    for (std::int64_t i = 0; i < elements; i += 32) _mm_prefetch(reinterpret_cast<const char*>(from + i), _MM_HINT_T0);
}

// `then` is what is read after the last block.
template <int QUERIES>
void score(const Cached& keys, std::int64_t length, const bf16* query, float* scores, std::int64_t stride,
           const bf16* then) {
    const std::int64_t chunks = keys.head_dim / 32;
    for (std::int64_t start = 0; start < length; start += keys.block_tokens) {
        const bf16* key = keys.block(start / keys.block_tokens);
        const std::int64_t end = std::min(start + keys.block_tokens, length);
        const bf16* next = end < length ? keys.block(start / keys.block_tokens + 1) : then;
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
void mix(const Cached& values, std::int64_t length, const float* weights, std::int64_t stride, const float* scale,
         std::int64_t first, bf16* out) {
    const __m512i odd_bits = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
    __m512 even[QUERIES][CHUNKS], odd[QUERIES][CHUNKS];
    for (int q = 0; q < QUERIES; ++q)
        for (int c = 0; c < CHUNKS; ++c) even[q][c] = odd[q][c] = _mm512_setzero_ps();
    for (std::int64_t start = 0; start < length; start += values.block_tokens) {
        const bf16* value = values.block(start / values.block_tokens) + first;
        const std::int64_t end = std::min(start + values.block_tokens, length);
        const bf16* next = end < length ? values.block(start / values.block_tokens + 1) + first : value;
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
void mix_all(const Cached& values, std::int64_t length, const float* weights, std::int64_t stride, const float* scale,
             bf16* out) {
    std::int64_t first = 0;
    for (; first + 64 <= values.head_dim; first += 64)
        mix<QUERIES, 2>(values, length, weights, stride, scale, first, out);
    if (first < values.head_dim) mix<QUERIES, 1>(values, length, weights, stride, scale, first, out);
}

#else

template <int QUERIES>
void score(const Cached& keys, std::int64_t length, const bf16* query, float* scores, std::int64_t stride,
           const bf16*) {
    for (std::int64_t start = 0; start < length; start += keys.block_tokens) {
        const bf16* key = keys.block(start / keys.block_tokens);
        const std::int64_t end = std::min(start + keys.block_tokens, length);
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
void mix_all(const Cached& values, std::int64_t length, const float* weights, std::int64_t stride, const float* scale,
             bf16* out) {
    std::vector<float> sums(QUERIES * values.head_dim, 0.0f);
    for (std::int64_t start = 0; start < length; start += values.block_tokens) {
        const bf16* value = values.block(start / values.block_tokens);
        const std::int64_t end = std::min(start + values.block_tokens, length);
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

// Attention of `QUERIES` scaled queries [QUERIES, head_dim] of one sequence that share a key-value head.
template <int QUERIES>
void attend_together(const Cached& keys, const Cached& values, std::int64_t length, const bf16* query, bf16* out) {
    static thread_local std::vector<float> scores;
    scores.resize(QUERIES * length);
    score<QUERIES>(keys, length, query, scores.data(), length, values.block(0));
    float scale[QUERIES];
    for (int q = 0; q < QUERIES; ++q) {
        float* own = scores.data() + q * length;
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
    mix_all<QUERIES>(values, length, scores.data(), length, scale, out);
}

}  // namespace

extern "C" {

// Keys and values of new tokens into the cache [blocks, slots, kv_heads, block_tokens, head_dim]. key and value are
// [tokens, kv_heads, head_dim] with a stride between tokens; slot and position of each token are given.
void store(const bf16* key, const bf16* value, std::int64_t key_stride, std::int64_t value_stride, bf16* keys,
           bf16* values, const std::int64_t* slot, const std::int64_t* position, std::int64_t tokens,
           std::int64_t slots, std::int64_t kv_heads, std::int64_t block_tokens, std::int64_t head_dim) {
#pragma omp parallel for schedule(static) if (tokens * kv_heads * head_dim >= PARALLEL_FROM)
    for (std::int64_t token = 0; token < tokens; ++token) {
        const std::int64_t block = position[token] / block_tokens, place = position[token] % block_tokens;
        for (std::int64_t head = 0; head < kv_heads; ++head) {
            const std::int64_t row = ((block * slots + slot[token]) * kv_heads + head) * block_tokens + place;
            const std::size_t bytes = head_dim * sizeof(bf16);
            std::memcpy(keys + row * head_dim, key + token * key_stride + head * head_dim, bytes);
            std::memcpy(values + row * head_dim, value + token * value_stride + head * head_dim, bytes);
        }
    }
}

// Attention of one token of each sequence over its cached keys and values. query is [sequences, heads, head_dim] with a
// stride between sequences; out is contiguous. head_dim is a multiple of 32.
void attend(const bf16* query, std::int64_t query_stride, const bf16* keys, const bf16* values,
            const std::int64_t* slot, const std::int64_t* length, bf16* out, std::int64_t sequences, std::int64_t slots,
            std::int64_t heads, std::int64_t kv_heads, std::int64_t block_tokens, std::int64_t head_dim,
            float scaling) {
    const std::int64_t group = heads / kv_heads;
#pragma omp parallel for schedule(dynamic, 2)
    for (std::int64_t task = 0; task < sequences * kv_heads; ++task) {
        const std::int64_t sequence = task / kv_heads, head = task % kv_heads;
        const Cached own_keys{keys, slots, kv_heads, block_tokens, head_dim, slot[sequence], head};
        const Cached own_values{values, slots, kv_heads, block_tokens, head_dim, slot[sequence], head};
        static thread_local std::vector<bf16> scaled;
        scaled.resize(group * head_dim);
        const bf16* own = query + sequence * query_stride + head * group * head_dim;
        for (std::int64_t i = 0; i < group * head_dim; ++i) scaled[i] = narrow(widen(own[i]) * scaling);
        bf16* result = out + (sequence * heads + head * group) * head_dim;
        for (std::int64_t first = 0; first < group; first += MOST_QUERIES) {
            const bf16* part = scaled.data() + first * head_dim;
            bf16* target = result + first * head_dim;
            switch (std::min<std::int64_t>(MOST_QUERIES, group - first)) {
                case 1: attend_together<1>(own_keys, own_values, length[sequence], part, target); break;
                case 2: attend_together<2>(own_keys, own_values, length[sequence], part, target); break;
                case 3: attend_together<3>(own_keys, own_values, length[sequence], part, target); break;
                default: attend_together<4>(own_keys, own_values, length[sequence], part, target);
            }
        }
    }
}
}
