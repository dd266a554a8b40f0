// Procedural scenes for the mask net. Built with nvcc for a GPU, or as C++ for a CPU; the same code makes the same scenes.
//
//   arrange   seeds -> rows (what stands where)          one thread a scene
//   compose   rows, sprites -> picture and labels         one thread a pixel
//   develop   picture -> photo                            one thread a pixel
//   compress  photo -> photo, as JPEG leaves it           one thread a block of one channel
//
// All functions return 0, or the CUDA error of the launch. Arrays are dense, in the layouts that rows.py and compose.h give.
#include "arrange.h"
#include "camera.h"

#ifdef __CUDACC__
template <class Work>
__global__ void __launch_bounds__(128) run(Work work, long count) {
  long i = (long)blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) work(i);
}
template <class Work>
int for_each(long count, Work work, void *stream) {
  if (count > 0) run<<<(unsigned)((count + 127) / 128), 128, 0, (cudaStream_t)stream>>>(work, count);
  return (int)cudaGetLastError();
}
#else
template <class Work>
int for_each(long count, Work work, void *) {
#pragma omp parallel for schedule(dynamic, 64)
  for (long i = 0; i < count; i++) work(i);
  return 0;
}
#endif

struct Rows {
  Scene *scenes;      // (count,)
  Surface *surfaces;  // (count, SURFACES)
  Panel *panels;      // (count, PANELS)
  Layer *layers;      // (count, LAYERS)
};

struct Arrange {
  const int32_t *seeds;
  Rows rows;
  Bank bank;
  Index index;
  int side;
  FN void operator()(long i) const {
    Arranged out = {rows.scenes + i, rows.surfaces + i * SURFACES, rows.panels + i * PANELS, rows.layers + i * LAYERS};
    arrange((uint32_t)seeds[i], bank, index, side, out);
  }
};

struct Compose {
  Rows rows;
  Bank bank;
  int side;
  float *rgb;           // (count, 3, side, side)
  uint8_t *labels;      // (count, side, side)
  float *inverse;       // (count, side, side) 1 / depth
  float *rise;          // (count, side, side)
  uint8_t *ground;      // (count, side, side) 1 where the ground is seen
  float *coverage;      // (count, LAYERS + 1, side, side), or null
  FN void operator()(long at) const {
    long area = (long)side * side, n = at / area, pixel = at % area;
    float shares[LAYERS + 1];
    Pixel p = composed(rows.scenes[n], rows.surfaces + n * SURFACES, rows.panels + n * PANELS, rows.layers + n * LAYERS, bank,
                       pixel % side + 0.5f, pixel / side + 0.5f, side, coverage ? shares : nullptr);
    p.colour = clamped(p.colour, 0, 1.3f);
    float *out = rgb + 3 * n * area + pixel;
    out[0] = p.colour.r;
    out[area] = p.colour.g;
    out[2 * area] = p.colour.b;
    labels[at] = (uint8_t)p.label;
    inverse[at] = 1 / p.depth;
    rise[at] = p.rise;
    ground[at] = p.ground;
    if (coverage)
      for (int k = 0; k <= LAYERS; k++) coverage[(n * (LAYERS + 1) + k) * area + pixel] = shares[k];
  }
};

struct Develop {
  const Scene *scenes;
  const float *composed;
  const uint8_t *labels;
  const float *inverse;
  float *rgb;
  int side;
  FN void operator()(long at) const {
    long area = (long)side * side, n = at / area, pixel = at % area;
    Picture picture = {composed + 3 * n * area, labels + n * area, inverse + n * area, side};
    Rgb c = developed(scenes[n], picture, pixel / side, pixel % side);
    float *out = rgb + 3 * n * area + pixel;
    out[0] = c.r;
    out[area] = c.g;
    out[2 * area] = c.b;
  }
};

struct Compress {
  const Scene *scenes;
  float *rgb;
  int side;
  FN void operator()(long at) const {
    long blocks = side / 8, per_scene = 3 * blocks * blocks, n = at / per_scene, rest = at % per_scene;
    if (scenes[n].jpeg <= 0) return;
    long channel = rest / (blocks * blocks), i = rest / blocks % blocks, j = rest % blocks;
    compressed(rgb + ((3 * n + channel) * side + 8 * i) * side + 8 * j, side, scenes[n].jpeg);
  }
};

extern "C" {
int arrange_scenes(const int32_t *seeds, Rows rows, Bank bank, Index index, int count, int side, void *stream) {
  return for_each(count, Arrange{seeds, rows, bank, index, side}, stream);
}
int compose_scenes(Rows rows, Bank bank, int count, int side, float *rgb, uint8_t *labels, float *inverse, float *rise,
                   uint8_t *ground, float *coverage, void *stream) {
  return for_each((long)count * side * side, Compose{rows, bank, side, rgb, labels, inverse, rise, ground, coverage}, stream);
}
int develop_scenes(const Scene *scenes, const float *composed, const uint8_t *labels, const float *inverse, float *rgb,
                   int count, int side, void *stream) {
  return for_each((long)count * side * side, Develop{scenes, composed, labels, inverse, rgb, side}, stream);
}
int compress_scenes(const Scene *scenes, float *rgb, int count, int side, void *stream) {
  return for_each((long)count * 3 * (side / 8) * (side / 8), Compress{scenes, rgb, side}, stream);
}
}
