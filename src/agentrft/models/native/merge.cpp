// A frozen weight with an adapter's change, rounded by thresholds: see models/merging.py, which computes the same.

#include "common.h"

using namespace agentrft;

namespace {

// The threshold of an element, 16 bits: what is added below the bits that are kept.
inline std::uint32_t threshold(std::uint32_t index) {
    std::uint32_t hash = index * 2654435761u;
    hash ^= hash >> 15;
    hash *= 0x85ebca6bu;
    hash ^= hash >> 13;
    return hash & 0xffffu;
}

}  // namespace

extern "C" {

// out = frozen + scale * up @ down; frozen and out are [rows, columns], up [rows, rank], down [rank, columns].
void merge(const bf16* frozen, const bf16* up, const bf16* down, bf16* out, std::int64_t rows, std::int64_t columns,
           std::int64_t rank, float scale) {
    std::vector<float> wide(rank * columns);
    for (std::int64_t i = 0; i < rank * columns; ++i) wide[i] = widen(down[i]);
#pragma omp parallel for schedule(static) if (rows * columns >= PARALLEL_FROM)
    for (std::int64_t row = 0; row < rows; ++row) {
        static thread_local std::vector<float> sums;
        sums.assign(columns, 0.0f);
        float* change = sums.data();
        for (std::int64_t r = 0; r < rank; ++r) {
            const float factor = widen(up[row * rank + r]);
            const float* own = wide.data() + r * columns;
#pragma omp simd
            for (std::int64_t i = 0; i < columns; ++i) change[i] += factor * own[i];
        }
        const bf16* before = frozen + row * columns;
        bf16* after = out + row * columns;
        const std::uint32_t first = static_cast<std::uint32_t>(row * columns);
#pragma omp simd
        for (std::int64_t i = 0; i < columns; ++i) {
            const float exact = widen(before[i]) + scale * change[i];
            std::uint32_t bits;
            std::memcpy(&bits, &exact, sizeof bits);
            // What is not finite stays so.
            const std::uint32_t added = (bits & 0x7f800000u) == 0x7f800000u
                                            ? 0u
                                            : threshold(first + static_cast<std::uint32_t>(i));
            after[i] = static_cast<bf16>((bits + added) >> 16);
        }
    }
}
}
