// Products of a few to many rows with a weight that was packed for the processor's bfloat16 dot product.
//
// That instruction multiplies pairs: each of 16 lanes adds two products to its float32 sum. A packed weight is a row of
// panels of `PANEL` outputs; within a panel, the pairs of inputs one after another, and of each pair all outputs.

#include "common.h"

using namespace agentrft;

namespace {

constexpr int VECTORS = 2;             // of 16 outputs, in a panel
constexpr int PANEL = 16 * VECTORS;
constexpr int TILE_ROWS = 12;          // with `VECTORS`, what the registers hold
constexpr std::int64_t BLOCK_ROWS = 96;  // of x, that a core keeps near while it goes through the weight
constexpr std::int64_t AHEAD = 16;     // pairs of inputs between what is computed and what is fetched

#if HAS_BF16_DOT

// out[row][0..PANEL) = x[row] . panel + bias, of `ROWS` rows.
template <int ROWS>
void tile(const bf16* x, std::int64_t x_stride, const bf16* panel, const bf16* bias, std::int64_t pairs, bf16* out,
          std::int64_t out_stride, bool fetch) {
    __m512 sums[ROWS][VECTORS];
    for (int v = 0; v < VECTORS; ++v) {
        __m512 first = _mm512_setzero_ps();
        if (bias != nullptr) {
            const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(bias) + v));
            first = _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
        }
        for (int row = 0; row < ROWS; ++row) sums[row][v] = first;
    }
    for (std::int64_t pair = 0; pair < pairs; ++pair) {
        const bf16* own = panel + pair * 2 * PANEL;
        __m512bh weights[VECTORS];
        for (int v = 0; v < VECTORS; ++v) {
            if (fetch) _mm_prefetch(reinterpret_cast<const char*>(own + AHEAD * 2 * PANEL + 32 * v), _MM_HINT_T0);
            weights[v] = (__m512bh)_mm512_loadu_si512(own + 32 * v);
        }
        for (int row = 0; row < ROWS; ++row) {
            std::int32_t inputs;
            std::memcpy(&inputs, x + row * x_stride + 2 * pair, sizeof inputs);
            const __m512bh both = (__m512bh)_mm512_set1_epi32(inputs);
            for (int v = 0; v < VECTORS; ++v) sums[row][v] = _mm512_dpbf16_ps(sums[row][v], both, weights[v]);
        }
    }
    for (int row = 0; row < ROWS; ++row)
        for (int v = 0; v < VECTORS; ++v) store_narrow(out + row * out_stride + 16 * v, sums[row][v]);
}

using Tile = void (*)(const bf16*, std::int64_t, const bf16*, const bf16*, std::int64_t, bf16*, std::int64_t, bool);

// By the number of rows, from 1.
constexpr Tile TILES[TILE_ROWS] = {tile<1>, tile<2>, tile<3>, tile<4>,  tile<5>,  tile<6>,
                                   tile<7>, tile<8>, tile<9>, tile<10>, tile<11>, tile<12>};

#endif

inline std::int64_t parts(std::int64_t whole, std::int64_t most) { return (whole + most - 1) / most; }

}  // namespace

extern "C" {

// The multiple that a packed weight's outputs must be; 0 where this processor lacks the instruction. Inputs are even.
std::int64_t packed_outputs() { return HAS_BF16_DOT ? PANEL : 0; }

// weight [outputs, inputs] to its packed form, of the same size.
void pack(const bf16* weight, bf16* packed, std::int64_t outputs, std::int64_t inputs) {
#pragma omp parallel for schedule(static)
    for (std::int64_t panel = 0; panel < outputs / PANEL; ++panel) {
        bf16* own = packed + panel * PANEL * inputs;
        for (std::int64_t output = 0; output < PANEL; ++output) {
            const bf16* row = weight + (panel * PANEL + output) * inputs;
            for (std::int64_t pair = 0; pair < inputs / 2; ++pair)
                std::memcpy(own + (pair * PANEL + output) * 2, row + 2 * pair, 2 * sizeof(bf16));
        }
    }
}

// out [rows, outputs] = x [rows, inputs] @ weight.T + bias (if not null); x has a stride between rows.
void product(const bf16* x, std::int64_t x_stride, const bf16* packed, const bf16* bias, bf16* out, std::int64_t rows,
             std::int64_t outputs, std::int64_t inputs) {
#if HAS_BF16_DOT
    const std::int64_t panels = outputs / PANEL, blocks = parts(rows, BLOCK_ROWS);
#pragma omp parallel for schedule(static)
    for (std::int64_t task = 0; task < blocks * panels; ++task) {
        const std::int64_t block = task / panels, column = task % panels * PANEL;
        const std::int64_t end = rows * (block + 1) / blocks;
        std::int64_t row = rows * block / blocks;
        for (std::int64_t tiles = parts(end - row, TILE_ROWS); tiles > 0; --tiles) {
            const std::int64_t size = parts(end - row, tiles);
            const bool fetch = row == 0;  // later ones find the panel in the cache
            TILES[size - 1](x + row * x_stride, x_stride, packed + column * inputs, bias ? bias + column : nullptr,
                            inputs / 2, out + row * outputs + column, outputs, fetch);
            row += size;
        }
    }
#endif
}
}
