// Attention over a token tree, and its gradient: each tile of queries sees some ranges of keys, the last of which is its
// own. Probabilities are not kept: the backward pass makes them again from the scores and their normalisers.

#include <omp.h>

#include "tile_attention.h"

using namespace agentrft;

#if HAS_BF16_DOT

namespace {

// The tiles of a layout: tile t is tokens [start[t], end[t]), and sees ranges first_range[t] to first_range[t + 1].
struct Tiles {
    const std::int64_t *start, *end, *first_range, *range_start, *range_end;
    std::int64_t count;
};

struct Task {
    std::int64_t tile, head, first_row, rows;
};

std::vector<Task> tasks_of(const Tiles& tiles, std::int64_t kv_heads, std::int64_t group) {
    std::vector<Task> tasks;
    for (std::int64_t tile = 0; tile < tiles.count; ++tile)
        for (std::int64_t head = 0; head < kv_heads; ++head) {
            const std::int64_t rows = (tiles.end[tile] - tiles.start[tile]) * group;
            for (std::int64_t row = 0; row < rows; row += TILE_ROWS)
                tasks.push_back({tile, head, row, std::min(TILE_ROWS, rows - row)});
        }
    return tasks;
}

std::int64_t keys_before(const Tiles& tiles, std::int64_t tile) {
    std::int64_t keys = 0;
    for (std::int64_t range = tiles.first_range[tile]; range < tiles.first_range[tile + 1]; ++range)
        keys += tiles.range_end[range] - tiles.range_start[range];
    return keys - (tiles.end[tile] - tiles.start[tile]);
}

// Calls `visit(place among the tile's keys, first token, tokens)` for the first `seen` keys, range by range.
template <class Visit>
void each_range(const Tiles& tiles, std::int64_t tile, std::int64_t seen, const Visit& visit) {
    std::int64_t place = 0;
    for (std::int64_t range = tiles.first_range[tile]; place < seen; ++range) {
        const std::int64_t count = std::min(tiles.range_end[range] - tiles.range_start[range], seen - place);
        visit(place, tiles.range_start[range], count);
        place += count;
    }
}

// The keys or values that a tile sees of one head of [tokens, kv_heads, head_dim], gathered.
struct Gathered {
    std::vector<bf16> matrix;  // [keys, head_dim]; what is left of the room is zero

    void take(const Tiles& tiles, std::int64_t tile, const TileShape& shape, const bf16* from, std::int64_t stride) {
        matrix.resize(shape.room() * shape.head_dim);
        each_range(tiles, tile, shape.seen(), [&](std::int64_t place, std::int64_t token, std::int64_t count) {
            for (std::int64_t i = 0; i < count; ++i)
                std::memcpy(matrix.data() + (place + i) * shape.head_dim, from + (token + i) * stride,
                            shape.head_dim * sizeof(bf16));
        });
        std::fill(matrix.begin() + shape.seen() * shape.head_dim, matrix.end(), bf16{0});
    }

    // As one part, for `TileForward`.
    auto whole(const TileShape& shape) const {
        return [this, room = shape.room()](const auto& visit) { visit(std::int64_t{0}, matrix.data(), room); };
    }
};

// What a thread reuses from tile to tile, besides what the forward pass needs.
struct TileBackward {
    std::vector<bf16> gradients;              // [TILE_ROWS, head_dim]: of the rows' results
    std::vector<std::uint32_t> of_results;    // the same in lanes
    std::vector<float> of_weights;            // [keys, TILE_ROWS]
    std::vector<bf16> weights, of_scores;     // [keys, TILE_ROWS]
    std::vector<std::uint32_t> scores_pairs;  // [keys / 2, TILE_ROWS]: of_scores, two keys to a pair
    std::vector<std::uint32_t> rows_pairs;    // [TILE_ROWS / 2, head_dim]

    void resize(const TileShape& shape) {
        gradients.resize(TILE_ROWS * shape.head_dim);
        of_results.resize(shape.head_dim / 2 * TILE_ROWS);
        of_weights.resize(shape.room() * TILE_ROWS);
        weights.resize(shape.room() * TILE_ROWS);
        of_scores.resize(shape.room() * TILE_ROWS);
        scores_pairs.resize(shape.room() / 2 * TILE_ROWS);
        rows_pairs.resize(TILE_ROWS / 2 * shape.head_dim);
    }

    // From scores and of_weights: the weights, and the gradient to the scores.
    void through_softmax(const TileShape& shape, const float* normalisers, float* scores) {
        const std::int64_t lanes = shape.lanes();
        float along[TILE_ROWS] = {};
        for (std::int64_t key = 0; key < shape.room(); ++key) {
            float *own = scores + key * TILE_ROWS, *gradient = of_weights.data() + key * TILE_ROWS;
            bf16* rounded = weights.data() + key * TILE_ROWS;
#pragma omp simd
            for (std::int64_t lane = 0; lane < lanes; ++lane) {
                own[lane] = exponential(own[lane] - normalisers[lane]);
                along[lane] += own[lane] * gradient[lane];
                rounded[lane] = narrow(own[lane]);
            }
        }
        for (std::int64_t key = 0; key < shape.room(); key += 2) {
            const float *own = scores + key * TILE_ROWS, *gradient = of_weights.data() + key * TILE_ROWS;
            bf16* rounded = of_scores.data() + key * TILE_ROWS;
            std::uint32_t* pairs = scores_pairs.data() + key / 2 * TILE_ROWS;
#pragma omp simd
            for (std::int64_t lane = 0; lane < lanes; ++lane) {
                const std::int64_t next = lane + TILE_ROWS;
                rounded[lane] = narrow(own[lane] * (gradient[lane] - along[lane]));
                rounded[next] = narrow(own[next] * (gradient[next] - along[lane]));
                pairs[lane] = pair_of(rounded[lane], rounded[next]);
            }
        }
    }
};

}  // namespace

#endif

extern "C" {

// query, key and value are [tokens, heads or kv_heads, head_dim] with strides between tokens; out is [tokens, heads,
// head_dim] and contiguous; normaliser [tokens, heads] gets the logarithm of each query's sum of exponentials.
void attend_tree(const bf16* query, const bf16* key, const bf16* value, std::int64_t query_stride,
                 std::int64_t key_stride, std::int64_t value_stride, const std::int64_t* start, const std::int64_t* end,
                 const std::int64_t* first_range, const std::int64_t* range_start, const std::int64_t* range_end,
                 std::int64_t count, bf16* out, float* normaliser, std::int64_t heads, std::int64_t kv_heads,
                 std::int64_t head_dim, float scaling) {
#if HAS_BF16_DOT
    const Tiles tiles{start, end, first_range, range_start, range_end, count};
    const std::int64_t group = heads / kv_heads;
    const std::vector<Task> tasks = tasks_of(tiles, kv_heads, group);
#pragma omp parallel for schedule(dynamic, 1)
    for (std::size_t index = 0; index < tasks.size(); ++index) {
        const Task task = tasks[index];
        static thread_local TileForward tile;
        static thread_local Gathered keys, values;
        const TileShape shape{task.rows, task.first_row, group, keys_before(tiles, task.tile), head_dim};
        const auto token = [&](std::int64_t row) { return start[task.tile] + (task.first_row + row) / group; };
        const auto head = [&](std::int64_t row) { return task.head * group + (task.first_row + row) % group; };
        tile.resize(shape);
        TileForward::take_rows(
            shape, scaling, [&](std::int64_t row) { return query + token(row) * query_stride + head(row) * head_dim; },
            tile.rows.data());
        keys.take(tiles, task.tile, shape, key + task.head * head_dim, key_stride);
        values.take(tiles, task.tile, shape, value + task.head * head_dim, value_stride);
        tile.attend(shape, keys.whole(shape), values.whole(shape),
                    [&](std::int64_t row) { return out + (token(row) * heads + head(row)) * head_dim; });
        for (std::int64_t row = 0; row < task.rows; ++row)
            normaliser[token(row) * heads + head(row)] = tile.highest[row] + std::log(tile.total[row]);
    }
#endif
}

// The gradients of `attend_tree`. of_out and of_query are [tokens, heads, head_dim] and contiguous, of_key and of_value
// [tokens, kv_heads, head_dim]. The order of all sums depends on the number of threads alone.
void attend_tree_grad(const bf16* query, const bf16* key, const bf16* value, std::int64_t query_stride,
                      std::int64_t key_stride, std::int64_t value_stride, const std::int64_t* start,
                      const std::int64_t* end, const std::int64_t* first_range, const std::int64_t* range_start,
                      const std::int64_t* range_end, std::int64_t count, const float* normaliser, const bf16* of_out,
                      bf16* of_query, bf16* of_key, bf16* of_value, std::int64_t tokens, std::int64_t heads,
                      std::int64_t kv_heads, std::int64_t head_dim, float scaling) {
#if HAS_BF16_DOT
    const Tiles tiles{start, end, first_range, range_start, range_end, count};
    const std::int64_t group = heads / kv_heads, size = tokens * kv_heads * head_dim;
    const std::vector<Task> tasks = tasks_of(tiles, kv_heads, group);
    // Each thread sums for itself: tiles of different threads see the same keys.
    std::vector<std::vector<float>> of_keys(omp_get_max_threads()), of_values(omp_get_max_threads());
    int threads = 1;
#pragma omp parallel
    {
        const int thread = omp_get_thread_num();
#pragma omp single
        threads = omp_get_num_threads();
        of_keys[thread].assign(size, 0.0f);
        of_values[thread].assign(size, 0.0f);
        static thread_local TileForward tile;
        static thread_local TileBackward back;
        static thread_local Gathered keys, values;
#pragma omp for schedule(static, 1)
        for (std::size_t index = 0; index < tasks.size(); ++index) {
            const Task task = tasks[index];
            const TileShape shape{task.rows, task.first_row, group, keys_before(tiles, task.tile), head_dim};
            const auto token = [&](std::int64_t row) { return start[task.tile] + (task.first_row + row) / group; };
            const auto head = [&](std::int64_t row) { return task.head * group + (task.first_row + row) % group; };
            const auto place = [&](std::int64_t row) { return (token(row) * heads + head(row)) * head_dim; };
            tile.resize(shape);
            back.resize(shape);
            TileForward::take_rows(
                shape, scaling,
                [&](std::int64_t row) { return query + token(row) * query_stride + head(row) * head_dim; },
                tile.rows.data());
            TileForward::take_rows(
                shape, 1.0f, [&](std::int64_t row) { return of_out + place(row); }, back.gradients.data());
            keys.take(tiles, task.tile, shape, key + task.head * head_dim, key_stride);
            values.take(tiles, task.tile, shape, value + task.head * head_dim, value_stride);
            float normalisers[TILE_ROWS] = {};
            for (std::int64_t row = 0; row < task.rows; ++row)
                normalisers[row] = normaliser[token(row) * heads + head(row)];
            tile.score(shape, keys.whole(shape));
            in_lanes(back.gradients.data(), shape.lanes(), head_dim, back.of_results.data());
            multiply(values.matrix.data(), shape.room(), shape, back.of_results.data(), back.of_weights.data());
            back.through_softmax(shape, normalisers, tile.scores.data());

            in_pairs(keys.matrix.data(), shape.room(), head_dim, tile.pairs.data());
            mix(task.rows, back.scores_pairs.data(), 1, TILE_ROWS, tile.pairs.data(), head_dim,
                [&](std::int64_t row) { return (shape.seen_by(row) + 1) / 2; },
                [&](std::int64_t row, std::int64_t dimension, __m512 sums) {
                    store_narrow(of_query + place(row) + dimension, _mm512_mul_ps(sums, _mm512_set1_ps(scaling)));
                });
            // To the keys and values: the rows' pairs are next to each other in the weights as they are.
            const auto spread = [&](const std::vector<bf16>& weights, const std::vector<bf16>& rows, float* target) {
                in_pairs(rows.data(), shape.lanes(), head_dim, back.rows_pairs.data());
                const auto* pairs = reinterpret_cast<const std::uint32_t*>(weights.data());
                each_range(tiles, task.tile, shape.seen(), [&](std::int64_t at, std::int64_t first, std::int64_t own) {
                    float* sum = target + (first * kv_heads + task.head) * head_dim;
                    mix(own, pairs + at * TILE_ROWS / 2, TILE_ROWS / 2, 1, back.rows_pairs.data(), head_dim,
                        [&](std::int64_t) { return shape.lanes() / 2; },
                        [&](std::int64_t row, std::int64_t dimension, __m512 sums) {
                            float* to = sum + row * kv_heads * head_dim + dimension;
                            _mm512_storeu_ps(to, _mm512_add_ps(_mm512_loadu_ps(to), sums));
                        });
                });
            };
            spread(back.weights, back.gradients, of_values[thread].data());
            spread(back.of_scores, tile.rows, of_keys[thread].data());
        }
#pragma omp for schedule(static)
        for (std::int64_t i = 0; i < size; ++i) {
            float of_own_key = 0.0f, of_own_value = 0.0f;
            for (int other = 0; other < threads; ++other) {
                of_own_key += of_keys[other][i];
                of_own_value += of_values[other][i];
            }
            of_key[i] = narrow(of_own_key);
            of_value[i] = narrow(of_own_value);
        }
    }
#endif
}
}
