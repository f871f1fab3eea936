// Attention of chunks of several new tokens, each over its own sequence's cached keys and values.
//
// All query heads of a key-value head are rows of one product with its keys; a task is `TILE_ROWS` such rows. Scores are
// held with the rows in the lanes, so that the softmax goes over whole vectors, and its results are already the pairs of
// keys that the dot product with the values takes.

#include "common.h"

using namespace agentrft;

namespace {

constexpr std::int64_t TILE_ROWS = 64;
constexpr std::int64_t KEYS = 4;     // scored together
constexpr int MIXED_ROWS = 6;        // whose sums the registers hold, each of 64 dimensions

#if HAS_BF16_DOT

struct Task {
    std::int64_t chunk, head, first_row, rows;
};

// Reused by a thread from task to task. Pairs of bfloat16 are held as 32 bits.
struct Scratch {
    std::vector<std::uint32_t> queries;  // [head_dim / 2, TILE_ROWS]
    std::vector<float> scores;           // [keys, TILE_ROWS]
    std::vector<std::uint32_t> weights;  // [keys / 2, TILE_ROWS]
    std::vector<std::uint32_t> values;   // [keys / 2, head_dim]
    float highest[TILE_ROWS], total[TILE_ROWS];
    std::int32_t visible[TILE_ROWS];  // keys that a row sees
};

// Scores of all rows with the first `seen` keys, rounded up to `KEYS`; what a row does not see is -infinity.
template <int VECTORS>
void score(const Cached& keys, std::int64_t seen, std::int64_t seen_by_all, Scratch& scratch) {
    const std::int64_t pairs = keys.head_dim / 2;
    const __m512 nothing = _mm512_set1_ps(-INFINITY);
    __m512 highest[VECTORS];
    for (int v = 0; v < VECTORS; ++v) highest[v] = nothing;
    for (std::int64_t first = 0; first < seen; first += KEYS) {
        const bf16* key = keys.block(first / keys.block_tokens) + first % keys.block_tokens * keys.head_dim;
        __m512 sums[KEYS][VECTORS];
        for (int k = 0; k < KEYS; ++k)
            for (int v = 0; v < VECTORS; ++v) sums[k][v] = _mm512_setzero_ps();
        for (std::int64_t pair = 0; pair < pairs; ++pair) {
            __m512bh queries[VECTORS];
            for (int v = 0; v < VECTORS; ++v)
                queries[v] = (__m512bh)_mm512_loadu_si512(scratch.queries.data() + pair * TILE_ROWS + 16 * v);
            for (int k = 0; k < KEYS; ++k) {
                std::int32_t both;
                std::memcpy(&both, key + k * keys.head_dim + 2 * pair, sizeof both);
                const __m512bh own = (__m512bh)_mm512_set1_epi32(both);
                for (int v = 0; v < VECTORS; ++v) sums[k][v] = _mm512_dpbf16_ps(sums[k][v], queries[v], own);
            }
        }
        for (int k = 0; k < KEYS; ++k)
            for (int v = 0; v < VECTORS; ++v) {
                if (first + k >= seen_by_all) {
                    const __m512i visible = _mm512_loadu_si512(scratch.visible + 16 * v);
                    const __m512i at = _mm512_set1_epi32(static_cast<int>(first + k));
                    sums[k][v] = _mm512_mask_blend_ps(_mm512_cmpgt_epi32_mask(visible, at), nothing, sums[k][v]);
                }
                highest[v] = _mm512_max_ps(highest[v], sums[k][v]);
                _mm512_storeu_ps(scratch.scores.data() + (first + k) * TILE_ROWS + 16 * v, sums[k][v]);
            }
    }
    for (int v = 0; v < VECTORS; ++v) _mm512_storeu_ps(scratch.highest + 16 * v, highest[v]);
}

// Scores to weights that still lack the division by their total.
void soften(std::int64_t seen, std::int64_t lanes, Scratch& scratch) {
    for (std::int64_t lane = 0; lane < lanes; ++lane) scratch.total[lane] = 0.0f;
    for (std::int64_t key = 0; key < seen; key += 2) {
        const float *even = scratch.scores.data() + key * TILE_ROWS, *odd = even + TILE_ROWS;
        std::uint32_t* weights = scratch.weights.data() + key / 2 * TILE_ROWS;
#pragma omp simd
        for (std::int64_t lane = 0; lane < lanes; ++lane) {
            const float low = exponential(even[lane] - scratch.highest[lane]);
            const float high = exponential(odd[lane] - scratch.highest[lane]);
            scratch.total[lane] += low + high;
            weights[lane] = static_cast<std::uint32_t>(narrow(low)) | static_cast<std::uint32_t>(narrow(high)) << 16;
        }
    }
}

void pair_values(const Cached& values, std::int64_t seen, Scratch& scratch) {
    const std::int64_t head_dim = values.head_dim;
    for (std::int64_t key = 0; key < seen; key += 2) {
        const bf16* even = values.block(key / values.block_tokens) + key % values.block_tokens * head_dim;
        std::uint32_t* pairs = scratch.values.data() + key / 2 * head_dim;
        for (std::int64_t i = 0; i < head_dim; ++i)
            pairs[i] = static_cast<std::uint32_t>(even[i]) | static_cast<std::uint32_t>(even[head_dim + i]) << 16;
    }
}

// `VECTORS` x 16 dimensions of `ROWS` rows from `first_row`, starting at dimension `first`; `out` has a place a row.
template <int ROWS, int VECTORS>
void mix(const Scratch& scratch, std::int64_t first_row, std::int64_t head_dim, std::int64_t first, std::int64_t pairs,
         bf16* const* out) {
    __m512 sums[ROWS][VECTORS];
    for (int row = 0; row < ROWS; ++row)
        for (int v = 0; v < VECTORS; ++v) sums[row][v] = _mm512_setzero_ps();
    for (std::int64_t pair = 0; pair < pairs; ++pair) {
        __m512bh values[VECTORS];
        for (int v = 0; v < VECTORS; ++v)
            values[v] = (__m512bh)_mm512_loadu_si512(scratch.values.data() + pair * head_dim + first + 16 * v);
        const std::uint32_t* weights = scratch.weights.data() + pair * TILE_ROWS + first_row;
        for (int row = 0; row < ROWS; ++row) {
            const __m512bh own = (__m512bh)_mm512_set1_epi32(static_cast<int>(weights[row]));
            for (int v = 0; v < VECTORS; ++v) sums[row][v] = _mm512_dpbf16_ps(sums[row][v], own, values[v]);
        }
    }
    for (int row = 0; row < ROWS; ++row) {
        const __m512 factor = _mm512_set1_ps(1.0f / scratch.total[first_row + row]);
        for (int v = 0; v < VECTORS; ++v)
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(out[row] + first + 16 * v),
                                _mm512_cvtepi32_epi16(narrow16(_mm512_mul_ps(sums[row][v], factor))));
    }
}

template <int ROWS>
void mix_all(const Scratch& scratch, std::int64_t first_row, std::int64_t head_dim, std::int64_t pairs,
             bf16* const* out) {
    std::int64_t first = 0;
    for (; first + 64 <= head_dim; first += 64) mix<ROWS, 4>(scratch, first_row, head_dim, first, pairs, out);
    if (first < head_dim) mix<ROWS, 2>(scratch, first_row, head_dim, first, pairs, out);
}

#endif

}  // namespace

extern "C" {

// Chunk c is `length[c]` tokens from row `start[c]` of query and out, at positions from `offset[c]` of slot `slot[c]`,
// whose keys and values are in the cache already. query is [tokens, heads, head_dim] with a stride between tokens; out is
// contiguous. head_dim is a multiple of 32, block_tokens of `KEYS`. Only where `packed_outputs` is not 0.
void attend_chunks(const bf16* query, std::int64_t query_stride, const bf16* keys, const bf16* values,
                   const std::int64_t* slot, const std::int64_t* start, const std::int64_t* length,
                   const std::int64_t* offset, bf16* out, std::int64_t chunks, std::int64_t slots, std::int64_t heads,
                   std::int64_t kv_heads, std::int64_t block_tokens, std::int64_t head_dim, float scaling) {
#if HAS_BF16_DOT
    const std::int64_t group = heads / kv_heads;
    std::vector<Task> tasks;
    for (std::int64_t chunk = 0; chunk < chunks; ++chunk)
        for (std::int64_t head = 0; head < kv_heads; ++head)
            for (std::int64_t row = 0; row < length[chunk] * group; row += TILE_ROWS)
                tasks.push_back({chunk, head, row, std::min(TILE_ROWS, length[chunk] * group - row)});
#pragma omp parallel for schedule(dynamic, 1)
    for (std::size_t index = 0; index < tasks.size(); ++index) {
        const Task task = tasks[index];
        static thread_local Scratch scratch;
        const Cached own_keys{keys, slots, kv_heads, block_tokens, head_dim, slot[task.chunk], task.head};
        const Cached own_values{values, slots, kv_heads, block_tokens, head_dim, slot[task.chunk], task.head};
        const std::int64_t first_token = task.first_row / group, before = offset[task.chunk] + 1;
        const std::int64_t last_token = (task.first_row + task.rows - 1) / group, seen = before + last_token;
        const std::int64_t lanes = (task.rows + 15) / 16 * 16, room = (seen + KEYS - 1) / KEYS * KEYS;
        scratch.queries.resize(head_dim / 2 * TILE_ROWS);
        scratch.scores.resize(room * TILE_ROWS);
        scratch.weights.resize(room / 2 * TILE_ROWS);
        scratch.values.resize(room / 2 * head_dim);
        bf16* places[TILE_ROWS];
        for (std::int64_t lane = 0; lane < lanes; ++lane) {  // lanes without a row repeat the last one
            const std::int64_t row = task.first_row + std::min(lane, task.rows - 1);
            const std::int64_t token = start[task.chunk] + row / group, head = task.head * group + row % group;
            const bf16* own = query + token * query_stride + head * head_dim;
            scratch.visible[lane] = static_cast<std::int32_t>(before + row / group);
            places[lane] = out + (token * heads + head) * head_dim;
            for (std::int64_t pair = 0; pair < head_dim / 2; ++pair)
                scratch.queries[pair * TILE_ROWS + lane] =
                    static_cast<std::uint32_t>(narrow(widen(own[2 * pair]) * scaling)) |
                    static_cast<std::uint32_t>(narrow(widen(own[2 * pair + 1]) * scaling)) << 16;
        }
        switch (lanes / 16) {
            case 1: score<1>(own_keys, seen, before + first_token, scratch); break;
            case 2: score<2>(own_keys, seen, before + first_token, scratch); break;
            case 3: score<3>(own_keys, seen, before + first_token, scratch); break;
            default: score<4>(own_keys, seen, before + first_token, scratch);
        }
        soften(seen, lanes, scratch);
        pair_values(own_values, seen, scratch);
        for (std::int64_t row = 0; row < task.rows; row += MIXED_ROWS) {
            const std::int64_t rows = std::min<std::int64_t>(MIXED_ROWS, task.rows - row);
            const std::int64_t pairs = (scratch.visible[row + rows - 1] + 1) / 2;
            bf16* const* own = places + row;
            switch (rows) {
                case 1: mix_all<1>(scratch, row, head_dim, pairs, own); break;
                case 2: mix_all<2>(scratch, row, head_dim, pairs, own); break;
                case 3: mix_all<3>(scratch, row, head_dim, pairs, own); break;
                case 4: mix_all<4>(scratch, row, head_dim, pairs, own); break;
                case 5: mix_all<5>(scratch, row, head_dim, pairs, own); break;
                default: mix_all<6>(scratch, row, head_dim, pairs, own);
            }
        }
    }
#endif
}
}
