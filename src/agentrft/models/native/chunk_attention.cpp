// Attention of chunks of several new tokens, each over its own sequence's cached keys and values.

#include "tile_attention.h"

using namespace agentrft;

#if HAS_BF16_DOT

namespace {

struct Task {
    std::int64_t chunk, head, first_row, rows;
};

// The first tokens of a sequence, page by page.
auto pages_of(const Cached<bf16>& cache, std::int64_t tokens) {
    return [=](const auto& visit) {
        for (std::int64_t start = 0; start < tokens; start += cache.page_tokens)
            visit(start, cache.page(start / cache.page_tokens), std::min(cache.page_tokens, tokens - start));
    };
}

}  // namespace

#endif

extern "C" {

// Chunk c is `length[c]` tokens from row `start[c]` of query and out, at positions from `offset[c]` of the sequence whose
// pages are row c of `table`; its keys and values are in the cache already. query is [tokens, heads, head_dim] with a
// stride between tokens; out is contiguous. head_dim is a multiple of 32, page_tokens of `KEYS`. Only where
// `packed_outputs` is not 0.
void attend_chunks(const bf16* query, std::int64_t query_stride, const bf16* keys, const bf16* values,
                   std::int64_t page_stride, const std::int64_t* table, std::int64_t table_stride,
                   const std::int64_t* start, const std::int64_t* length, const std::int64_t* offset, bf16* out,
                   std::int64_t chunks, std::int64_t heads, std::int64_t kv_heads, std::int64_t page_tokens,
                   std::int64_t head_dim, float scaling) {
#if HAS_BF16_DOT
    const std::int64_t group = heads / kv_heads;
    std::vector<Task> tasks;
    for (std::int64_t chunk = 0; chunk < chunks; ++chunk)
        for (std::int64_t head = 0; head < kv_heads; ++head)
            for (std::int64_t row = 0; row < length[chunk] * group; row += TILE_ROWS)
                tasks.push_back({chunk, head, row, std::min(TILE_ROWS, length[chunk] * group - row)});
#pragma omp parallel for schedule(dynamic, 1)
    for (std::size_t index = 0; index < tasks.size(); ++index) {
        const auto [chunk, head, first_row, rows] = tasks[index];
        static thread_local TileForward tile;
        const TileShape shape{rows, first_row, group, offset[chunk], head_dim};
        // Of query or out: the row's place within tokens that are `stride` apart.
        const auto place = [&, chunk = chunk, head = head, first_row = first_row](std::int64_t row, std::int64_t stride) {
            const std::int64_t own = first_row + row;
            return (start[chunk] + own / group) * stride + (head * group + own % group) * head_dim;
        };
        tile.resize(shape);
        TileForward::take_rows(
            shape, scaling, [&](std::int64_t row) { return query + place(row, query_stride); }, tile.rows.data());
        const std::int64_t* own = table + chunk * table_stride;
        const Cached<bf16> own_keys{keys, page_stride, own, page_tokens, head_dim, head};
        const Cached<bf16> own_values{values, page_stride, own, page_tokens, head_dim, head};
        tile.attend(shape, pages_of(own_keys, shape.room()), pages_of(own_values, shape.room()),
                    [&](std::int64_t row) { return out + place(row, heads * head_dim); });
    }
#endif
}
}
