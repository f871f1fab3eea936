// Attention of a tile of queries that share a key-value head, by the processor's bfloat16 dot product.
//
// A tile's rows are its tokens, and of each all the query heads of one key-value head. Scores are held with the rows in
// the lanes of vectors, so that the softmax goes over whole vectors, and what it gives are already the pairs that the dot
// product with the values takes. A pair is two bfloat16 in 32 bits, the first one below.

#pragma once

#include "common.h"

#if HAS_BF16_DOT

namespace agentrft {

constexpr std::int64_t TILE_ROWS = 64;
constexpr std::int64_t KEYS = 4;      // scored together; what holds keys has room for a multiple
constexpr int MIXED_ROWS = 6;         // whose sums the registers hold, each of 64 dimensions

inline std::int64_t rounded_up(std::int64_t value, std::int64_t multiple) {
    return (value + multiple - 1) / multiple * multiple;
}

inline std::uint32_t pair_of(bf16 first, bf16 second) {
    return static_cast<std::uint32_t>(first) | static_cast<std::uint32_t>(second) << 16;
}

// A tile of `rows` queries, the last of `seen` keys: row r belongs to the token `(first_row + r) / group` of those that
// follow `before` keys.
struct TileShape {
    std::int64_t rows, first_row, group, before, head_dim;

    std::int64_t seen_by(std::int64_t row) const { return before + (first_row + row) / group + 1; }
    std::int64_t seen() const { return seen_by(rows - 1); }
    std::int64_t room() const { return rounded_up(seen(), KEYS); }
    std::int64_t lanes() const { return rounded_up(rows, 16); }
};

// [rows, head_dim] to the pairs of dimensions of each row, [head_dim / 2, TILE_ROWS].
inline void in_lanes(const bf16* matrix, std::int64_t lanes, std::int64_t head_dim, std::uint32_t* pairs) {
    for (std::int64_t lane = 0; lane < lanes; ++lane)
        for (std::int64_t pair = 0; pair < head_dim / 2; ++pair)
            std::memcpy(pairs + pair * TILE_ROWS + lane, matrix + lane * head_dim + 2 * pair, sizeof(std::uint32_t));
}

// [rows, head_dim] to the pairs of rows of each dimension, [rows / 2, head_dim].
inline void in_pairs(const bf16* matrix, std::int64_t rows, std::int64_t head_dim, std::uint32_t* pairs) {
    for (std::int64_t row = 0; row < rows; row += 2, matrix += 2 * head_dim, pairs += head_dim)
        for (std::int64_t i = 0; i < head_dim; ++i) pairs[i] = pair_of(matrix[i], matrix[head_dim + i]);
}

// scores[k][lane] = matrix[k] . lane; matrix is [count, head_dim], count a multiple of `KEYS`.
template <int VECTORS>
void multiply_by(const bf16* matrix, std::int64_t count, std::int64_t head_dim, const std::uint32_t* lanes,
                 float* scores) {
    for (std::int64_t first = 0; first < count; first += KEYS) {
        const bf16* own = matrix + first * head_dim;
        __m512 sums[KEYS][VECTORS];
        for (int k = 0; k < KEYS; ++k)
            for (int v = 0; v < VECTORS; ++v) sums[k][v] = _mm512_setzero_ps();
        for (std::int64_t pair = 0; pair < head_dim / 2; ++pair) {
            __m512bh part[VECTORS];
            for (int v = 0; v < VECTORS; ++v)
                part[v] = (__m512bh)_mm512_loadu_si512(lanes + pair * TILE_ROWS + 16 * v);
            for (int k = 0; k < KEYS; ++k) {
                std::int32_t both;
                std::memcpy(&both, own + k * head_dim + 2 * pair, sizeof both);
                const __m512bh key = (__m512bh)_mm512_set1_epi32(both);
                for (int v = 0; v < VECTORS; ++v) sums[k][v] = _mm512_dpbf16_ps(sums[k][v], part[v], key);
            }
        }
        for (int k = 0; k < KEYS; ++k)
            for (int v = 0; v < VECTORS; ++v)
                _mm512_storeu_ps(scores + (first + k) * TILE_ROWS + 16 * v, sums[k][v]);
    }
}

inline void multiply(const bf16* matrix, std::int64_t count, const TileShape& shape, const std::uint32_t* lanes,
                     float* scores) {
    switch (shape.lanes() / 16) {
        case 1: multiply_by<1>(matrix, count, shape.head_dim, lanes, scores); break;
        case 2: multiply_by<2>(matrix, count, shape.head_dim, lanes, scores); break;
        case 3: multiply_by<3>(matrix, count, shape.head_dim, lanes, scores); break;
        default: multiply_by<4>(matrix, count, shape.head_dim, lanes, scores);
    }
}

// What a row does not see gets the score -infinity.
inline void hide(const TileShape& shape, float* scores) {
    std::int32_t visible[TILE_ROWS];
    for (std::int64_t lane = 0; lane < shape.lanes(); ++lane)
        visible[lane] = static_cast<std::int32_t>(shape.seen_by(std::min(lane, shape.rows - 1)));
    for (std::int64_t key = shape.seen_by(0); key < shape.room(); ++key) {
        float* own = scores + key * TILE_ROWS;
        const std::int32_t at = static_cast<std::int32_t>(key);
#pragma omp simd
        for (std::int64_t lane = 0; lane < shape.lanes(); ++lane) own[lane] = visible[lane] > at ? own[lane] : -INFINITY;
    }
}

// Hidden scores to the pairs of keys' weights, [keys / 2, TILE_ROWS], which still lack the division by their total.
inline void soften(const TileShape& shape, const float* scores, std::uint32_t* weights, float* highest, float* total) {
    const std::int64_t lanes = shape.lanes();
    for (std::int64_t lane = 0; lane < lanes; ++lane) highest[lane] = -INFINITY, total[lane] = 0.0f;
    for (std::int64_t key = 0; key < shape.seen(); ++key) {
        const float* own = scores + key * TILE_ROWS;
#pragma omp simd
        for (std::int64_t lane = 0; lane < lanes; ++lane) highest[lane] = std::max(highest[lane], own[lane]);
    }
    for (std::int64_t key = 0; key < shape.room(); key += 2) {
        const float *first = scores + key * TILE_ROWS, *second = first + TILE_ROWS;
        std::uint32_t* own = weights + key / 2 * TILE_ROWS;
#pragma omp simd
        for (std::int64_t lane = 0; lane < lanes; ++lane) {
            const float low = exponential(first[lane] - highest[lane]);
            const float high = exponential(second[lane] - highest[lane]);
            total[lane] += low + high;
            own[lane] = pair_of(narrow(low), narrow(high));
        }
    }
}

// For each row the sum over pairs of weight . values[pair], the values being [pairs, head_dim]. The weight of a row and a
// pair is `weights[row * row_stride + pair * pair_stride]`. `take(row, dimension, sums)` gets 16 dimensions at a time.
template <int ROWS, int VECTORS, class Take>
inline void mix_part(const std::uint32_t* weights, std::int64_t row_stride, std::int64_t pair_stride,
                     const std::uint32_t* values, std::int64_t head_dim, std::int64_t pairs, std::int64_t first,
                     std::int64_t first_row, const Take& take) {
    __m512 sums[ROWS][VECTORS];
    for (int row = 0; row < ROWS; ++row)
        for (int v = 0; v < VECTORS; ++v) sums[row][v] = _mm512_setzero_ps();
    for (std::int64_t pair = 0; pair < pairs; ++pair) {
        __m512bh part[VECTORS];
        for (int v = 0; v < VECTORS; ++v)
            part[v] = (__m512bh)_mm512_loadu_si512(values + pair * head_dim + first + 16 * v);
        for (int row = 0; row < ROWS; ++row) {
            const std::uint32_t weight = weights[row * row_stride + pair * pair_stride];
            const __m512bh own = (__m512bh)_mm512_set1_epi32(static_cast<int>(weight));
            for (int v = 0; v < VECTORS; ++v) sums[row][v] = _mm512_dpbf16_ps(sums[row][v], own, part[v]);
        }
    }
    for (int row = 0; row < ROWS; ++row)
        for (int v = 0; v < VECTORS; ++v) take(first_row + row, first + 16 * v, sums[row][v]);
}

template <int ROWS, class Take>
inline void mix_rows(const std::uint32_t* weights, std::int64_t row_stride, std::int64_t pair_stride,
                     const std::uint32_t* values, std::int64_t head_dim, std::int64_t pairs, std::int64_t first_row,
                     const Take& take) {
    const std::uint32_t* own = weights + first_row * row_stride;
    std::int64_t first = 0;
    for (; first + 64 <= head_dim; first += 64)
        mix_part<ROWS, 4>(own, row_stride, pair_stride, values, head_dim, pairs, first, first_row, take);
    if (first < head_dim)
        mix_part<ROWS, 2>(own, row_stride, pair_stride, values, head_dim, pairs, first, first_row, take);
}

// `pairs_of(row)` says how many pairs the rows up to that one need.
template <class Take, class PairsOf>
void mix(std::int64_t rows, const std::uint32_t* weights, std::int64_t row_stride, std::int64_t pair_stride,
         const std::uint32_t* values, std::int64_t head_dim, const PairsOf& pairs_of, const Take& take) {
    for (std::int64_t row = 0; row < rows; row += MIXED_ROWS) {
        const std::int64_t own = std::min<std::int64_t>(MIXED_ROWS, rows - row), pairs = pairs_of(row + own - 1);
        switch (own) {
            case 1: mix_rows<1>(weights, row_stride, pair_stride, values, head_dim, pairs, row, take); break;
            case 2: mix_rows<2>(weights, row_stride, pair_stride, values, head_dim, pairs, row, take); break;
            case 3: mix_rows<3>(weights, row_stride, pair_stride, values, head_dim, pairs, row, take); break;
            case 4: mix_rows<4>(weights, row_stride, pair_stride, values, head_dim, pairs, row, take); break;
            case 5: mix_rows<5>(weights, row_stride, pair_stride, values, head_dim, pairs, row, take); break;
            default: mix_rows<MIXED_ROWS>(weights, row_stride, pair_stride, values, head_dim, pairs, row, take);
        }
    }
}

// What a thread reuses from tile to tile.
struct TileForward {
    std::vector<bf16> rows;               // [TILE_ROWS, head_dim]: the scaled queries
    std::vector<std::uint32_t> queries;   // [head_dim / 2, TILE_ROWS]
    std::vector<float> scores;            // [keys, TILE_ROWS]
    std::vector<std::uint32_t> weights;   // [keys / 2, TILE_ROWS]
    std::vector<std::uint32_t> pairs;     // [keys / 2, head_dim]
    float highest[TILE_ROWS], total[TILE_ROWS];

    void resize(const TileShape& shape) {
        rows.resize(TILE_ROWS * shape.head_dim);
        queries.resize(shape.head_dim / 2 * TILE_ROWS);
        scores.resize(shape.room() * TILE_ROWS);
        weights.resize(shape.room() / 2 * TILE_ROWS);
        pairs.resize(shape.room() / 2 * shape.head_dim);
    }

    // The rows times `factor`; lanes without a row are zero.
    template <class RowAt>
    static void take_rows(const TileShape& shape, float factor, const RowAt& row_at, bf16* to) {
        for (std::int64_t row = 0; row < shape.lanes(); ++row, to += shape.head_dim) {
            if (row >= shape.rows) {
                std::memset(to, 0, shape.head_dim * sizeof(bf16));
                continue;
            }
            const bf16* own = row_at(row);
            for (std::int64_t i = 0; i < shape.head_dim; ++i) to[i] = narrow(widen(own[i]) * factor);
        }
    }

    // Scores of `rows` with the keys that each of them sees. `keys(visit)` calls `visit(place, matrix, count)` for parts
    // of `shape.room()` keys that stand together, each but the last a multiple of `KEYS`.
    template <class Keys>
    void score(const TileShape& shape, const Keys& keys) {
        in_lanes(rows.data(), shape.lanes(), shape.head_dim, queries.data());
        keys([&](std::int64_t place, const bf16* matrix, std::int64_t count) {
            multiply(matrix, count, shape, queries.data(), scores.data() + place * TILE_ROWS);
        });
        hide(shape, scores.data());
    }

    // Attention of `rows`; `place(row)` is where a row's result goes.
    template <class Keys, class Values, class Place>
    void attend(const TileShape& shape, const Keys& keys, const Values& values, const Place& place) {
        score(shape, keys);
        soften(shape, scores.data(), weights.data(), highest, total);
        values([&](std::int64_t start, const bf16* matrix, std::int64_t count) {
            in_pairs(matrix, count, shape.head_dim, pairs.data() + start / 2 * shape.head_dim);
        });
        mix(shape.rows, weights.data(), 1, TILE_ROWS, pairs.data(), shape.head_dim,
            [&](std::int64_t row) { return (shape.seen_by(row) + 1) / 2; },
            [&](std::int64_t row, std::int64_t dimension, __m512 sums) {
                store_narrow(place(row) + dimension, _mm512_mul_ps(sums, _mm512_set1_ps(1.0f / total[row])));
            });
    }
};

}  // namespace agentrft

#endif
