// Ray caster for procedural shapes: one source, built by nvcc for CUDA and by g++ -x c++ for the CPU.
//
// One thread makes one pixel. A shape is at most MAX_PRIMITIVES signed-distance primitives joined one after the other;
// the macros for rows, views, materials and planes come from layout.py. Distances are good to within a factor
// (ellipsoids, twisted things), so rays take a share of them. Formulas of primitives: I. Quilez, "Distance functions"
// (iquilezles.org), written anew; tests compare them with benchmarks/procedural/sdf.py.
#include <math.h>
#ifdef __CUDACC__
#define FN __device__ __forceinline__
#else
#define FN static inline
#endif

struct Vec { float x, y, z; };
FN Vec vec(float x, float y, float z) { Vec v = {x, y, z}; return v; }
FN Vec vec(const float* p) { return vec(p[0], p[1], p[2]); }
FN Vec operator+(Vec a, Vec b) { return vec(a.x + b.x, a.y + b.y, a.z + b.z); }
FN Vec operator-(Vec a, Vec b) { return vec(a.x - b.x, a.y - b.y, a.z - b.z); }
FN Vec operator*(Vec a, float s) { return vec(a.x * s, a.y * s, a.z * s); }
FN Vec operator*(Vec a, Vec b) { return vec(a.x * b.x, a.y * b.y, a.z * b.z); }
FN float dot(Vec a, Vec b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
FN float length(Vec a) { return sqrtf(dot(a, a)); }
FN float length2(float x, float y) { return sqrtf(x * x + y * y); }
FN Vec unit(Vec a) { return a * (1.f / fmaxf(length(a), 1e-8f)); }
FN float clamp(float x, float low, float high) { return fminf(fmaxf(x, low), high); }
FN Vec mix(Vec a, Vec b, float t) { return a + (b - a) * t; }

// ---- Noise: the same numbers as benchmarks/procedural/textures.py ----

FN float hash(int i, int j, int k, int salt) {
  unsigned h = (unsigned)i * 374761393u + (unsigned)j * 668265263u + (unsigned)k * 2147483647u + (unsigned)salt * 1274126177u;
  h = (h ^ (h >> 13)) * 1274126177u;
  h ^= h >> 16;
  h *= 2246822519u;
  h ^= h >> 13;
  return (h & 0xffffff) / 16777216.f;
}
FN float value_noise(Vec p, int salt) {
  float fx = floorf(p.x), fy = floorf(p.y), fz = floorf(p.z);
  int i = (int)fx, j = (int)fy, k = (int)fz;
  float u = p.x - fx, v = p.y - fy, w = p.z - fz;
  u = u * u * (3 - 2 * u), v = v * v * (3 - 2 * v), w = w * w * (3 - 2 * w);
  float x00 = hash(i, j, k, salt), x10 = hash(i, j + 1, k, salt);
  float x01 = hash(i, j, k + 1, salt), x11 = hash(i, j + 1, k + 1, salt);
  x00 += (hash(i + 1, j, k, salt) - x00) * u, x10 += (hash(i + 1, j + 1, k, salt) - x10) * u;
  x01 += (hash(i + 1, j, k + 1, salt) - x01) * u, x11 += (hash(i + 1, j + 1, k + 1, salt) - x11) * u;
  float y0 = x00 + (x10 - x00) * v, y1 = x01 + (x11 - x01) * v;
  return y0 + (y1 - y0) * w;
}
FN float fractal_noise(Vec p, int salt) {
  return (4 * value_noise(p, salt) + 2 * value_noise(p * 2.03f, salt + 1) + value_noise(p * 4.1f, salt + 2)) / 7.f;
}

// ---- Distances ----

FN float rectangle(float x, float y) {  // to the quarter plane x, y < 0
  return fminf(fmaxf(x, y), 0.f) + length2(fmaxf(x, 0.f), fmaxf(y, 0.f));
}
FN float revolved(const float* size, float radius, float y) {  // radii run smoothly (Catmull-Rom) through twelve values
  float half = size[12], wall = size[13];
  float at = clamp((y + half) / (2 * half), 0.f, .99999f) * 11.f;
  int i = (int)at;
  float f = at - i, f2 = f * f, f3 = f2 * f;
  float r1 = size[i], r2 = size[i + 1], r0 = i > 0 ? size[i - 1] : r1, r3 = i < 10 ? size[i + 2] : r2;
  float m1 = (r2 - r0) * .5f, m2 = (r3 - r1) * .5f;
  float r = (2 * f3 - 3 * f2 + 1) * r1 + (f3 - 2 * f2 + f) * m1 + (3 * f2 - 2 * f3) * r2 + (f3 - f2) * m2;
  float slope = (6 * f2 - 6 * f) * (r1 - r2) + (3 * f2 - 4 * f + 1) * m1 + (3 * f2 - 2 * f) * m2;
  slope = fminf(fabsf(slope * 11.f / (2 * half)), 5.f);
  float side = (radius - fmaxf(r, .004f)) / sqrtf(1.f + slope * slope);
  float d = rectangle(side, fabsf(y) - half);
  if (wall > 0) {
    float cavity = fmaxf(side + wall, wall - half - y);
    if (size[14] > 0) cavity = fmaxf(cavity, y - half + wall);  // a lid
    d = fmaxf(d, -cavity);
  }
  return d;
}
FN float primitive(int kind, const float* s, Vec p) {
  if (kind == ELLIPSOID) {
    Vec a = vec(p.x / s[0], p.y / s[1], p.z / s[2]);
    float k0 = length(a), k1 = length(vec(a.x / s[0], a.y / s[1], a.z / s[2]));
    return k0 < 1e-4f ? -fminf(s[0], fminf(s[1], s[2])) : k0 * (k0 - 1.f) / k1;
  }
  if (kind == BOX) {
    float r = s[3], x = fabsf(p.x) - s[0] + r, y = fabsf(p.y) - s[1] + r, z = fabsf(p.z) - s[2] + r;
    return length(vec(fmaxf(x, 0.f), fmaxf(y, 0.f), fmaxf(z, 0.f))) + fminf(fmaxf(x, fmaxf(y, z)), 0.f) - r;
  }
  if (kind == TORUS) {
    float sx = sinf(s[2]), sy = cosf(s[2]), x = fabsf(p.x) / s[3];
    float k = sy * x > sx * p.y ? x * sx + p.y * sy : length2(x, p.y);
    float ring = sqrtf(fmaxf(x * x + p.y * p.y + p.z * p.z + s[0] * s[0] - 2 * s[0] * k, 0.f));
    return (ring - s[1]) * fminf(s[3], 1.f);
  }
  if (kind == SUPERQUADRIC) {
    float n = s[3];
    float f = powf(fabsf(p.x / s[0]) + 1e-6f, n) + powf(fabsf(p.y / s[1]) + 1e-6f, n) + powf(fabsf(p.z / s[2]) + 1e-6f, n);
    return (powf(f, 1.f / n) - 1.f) * fminf(s[0], fminf(s[1], s[2]));
  }
  if (kind == EXTRUDED) {
    float angle = atan2f(p.y, p.x), r = 1.f;
    for (int i = 0; i < 4; i++) r += s[3 + 2 * i] * cosf((i + 2) * angle + s[4 + 2 * i]);
    float side = (length2(p.x, p.y) - r * s[0]) * .65f;
    return rectangle(side + s[2], fabsf(p.z) - s[1] + s[2]) - s[2];
  }
  float radius = length2(p.x, p.z);
  if (kind == CYLINDER) return rectangle(radius - s[0] + s[2], fabsf(p.y) - s[1] + s[2]) - s[2];
  if (kind == LIMB) {
    float b = clamp((s[0] - s[1]) / s[2], -.98f, .98f), a = sqrtf(1 - b * b), k = a * p.y - b * radius;
    if (k < 0) return length2(radius, p.y) - s[0];
    if (k > a * s[2]) return length2(radius, p.y - s[2]) - s[1];
    return radius * a + p.y * b - s[0];
  }
  if (kind == CONE) {
    float half = s[0], r1 = s[1], r2 = s[2], edge = s[3];
    float r = r1 + (r2 - r1) * clamp((p.y + half) / (2 * half), 0.f, 1.f);
    float slant = 2 * half / length2(2 * half, r1 - r2);
    return rectangle((radius - r) * slant + edge, fabsf(p.y) - half + edge) - edge;
  }
  if (kind == PRISM) {
    float sector = 6.2831853f / s[3], angle = atan2f(p.z, p.x);
    angle -= sector * floorf(angle / sector + .5f);
    return rectangle(radius * cosf(angle) - s[0] + s[2], fabsf(p.y) - s[1] + s[2]) - s[2];
  }
  return revolved(s, radius, p.y);
}

struct Shape {
  const float* rows;
  int count;
  const float* view;
};

// Distance at a point of the shape frame; `part` receives the material. Bumps far from the surface matter for `fine` only.
FN float distance(const Shape& shape, Vec p, int* part, bool fine) {
  const float* view = shape.view;
  float twist = view[V_TWIST], taper = view[V_TAPER], bump = view[V_BUMP_HEIGHT];
  Vec q = p;
  if (twist != 0.f) {
    float c = cosf(twist * p.y), s = sinf(twist * p.y);
    q = vec(c * p.x - s * p.z, p.y, s * p.x + c * p.z);
  }
  if (taper != 0.f) {
    float f = 1.f / clamp(1.f + taper * p.y, .4f, 2.5f);
    q.x *= f, q.z *= f;
  }
  float total = 1e9f;
  int found = 0;
  for (int i = 0; i < shape.count; i++) {
    const float* row = shape.rows + i * ROW_LENGTH;
    int mirror = (int)row[MIRROR], operation = (int)row[OPERATION];
    float blend = row[BLEND];
    Vec a = vec(mirror & MIRROR_X ? fabsf(q.x) : q.x, q.y, mirror & MIRROR_Z ? fabsf(q.z) : q.z) - vec(row + POSITION);
    const float* r = row + ROTATION;
    Vec local = vec(dot(vec(r), a), dot(vec(r + 3), a), dot(vec(r + 6), a));
    float d = primitive((int)row[KIND], row + SIZES, local);
    if (i == 0) {
      total = d, found = (int)row[PART];
    } else if (operation <= SMOOTH_UNION) {
      if (d < total) found = (int)row[PART];
      float h = operation == SMOOTH_UNION ? fmaxf(blend - fabsf(total - d), 0.f) / blend : 0.f;
      total = fminf(total, d) - h * h * blend * .25f;
    } else {
      float h = operation == SMOOTH_SUBTRACT ? fmaxf(blend - fabsf(total + d), 0.f) / blend : 0.f;
      total = fmaxf(total, -d) + h * h * blend * .25f;
    }
  }
  if (bump > 0.f && (fine || total < .15f)) total += bump * (fractal_noise(p * view[V_BUMP_FREQUENCY], 5) - .5f);
  if (part) *part = found;
  return total;
}

// ---- Rays ----

FN Vec to_shape(const float* turn, Vec c) {
  return vec(turn[0] * c.x + turn[3] * c.y + turn[6] * c.z, turn[1] * c.x + turn[4] * c.y + turn[7] * c.z,
             turn[2] * c.x + turn[5] * c.y + turn[8] * c.z);
}
FN Vec to_camera(const float* turn, Vec c) { return vec(dot(vec(turn), c), dot(vec(turn + 3), c), dot(vec(turn + 6), c)); }

#define REACH 2.4f       // shapes lie within this distance of the origin
#define SHORTEST .0008f  // step
#define NOWHERE 1e9f
#define LEAST_GAP .03f   // of the crop's half side: closer walls are one

struct Ray {
  Vec base, slope;  // camera frame; the point at depth z is base + slope * z
  float share;      // of a distance that may be walked in z
  float end;        // the ray runs from z = end to -end
};
FN Ray make_ray(const float* view, float x, float y) {
  Ray ray;
  float lean = view[V_LEAN];
  ray.base = vec(x, y, 0), ray.slope = vec(-x * lean, -y * lean, 1.f);
  bool bent = view[V_BUMP_HEIGHT] > 0.f || view[V_TWIST] != 0.f || view[V_TAPER] != 0.f;
  ray.share = (bent ? .65f : .85f) / length(ray.slope);
  float rest = REACH * REACH - x * x - y * y;
  ray.end = rest > 0.f ? sqrtf(rest) : -1.f;
  return ray;
}
FN Vec at(const Shape& shape, const Ray& ray, float z) { return to_shape(shape.view + V_TURN, ray.base + ray.slope * z); }

// Walk from depth z in direction -step (+1: away from the viewer) until the distance is below `surface`.
FN float enter(const Shape& shape, const Ray& ray, float z, int step, float surface, int limit) {
  for (int i = 0; i < limit; i++) {
    float d = distance(shape, at(shape, ray, z), 0, false);
    if (d < surface) return z;
    z -= step * fmaxf(d * ray.share, SHORTEST);
    if (fabsf(z) > ray.end) return NOWHERE;
  }
  return NOWHERE;
}
// Walk away from the viewer, inside, until the distance is above `surface` or depth `last` is reached.
FN float leave(const Shape& shape, const Ray& ray, float z, float last, float surface, float shortest) {
  for (int i = 0; i < 160 && z > last; i++) {
    float d = distance(shape, at(shape, ray, z), 0, false);
    if (d > surface) return z;
    z -= fmaxf((surface - d) * ray.share, shortest);
  }
  return last;
}
// First exit and second entry between first entry and last exit; false when the way between them is solid.
FN bool find_gap(const Shape& shape, const Ray& ray, float first, float last, float surface, float half, float* out) {
  float shortest = fmaxf(SHORTEST, .002f * half), z = first - shortest;
  for (int tries = 0; tries < 4; tries++) {
    float exit = leave(shape, ray, z, last, surface, shortest);
    if (exit <= last + LEAST_GAP * half) return false;
    float entry = exit;
    for (int i = 0; i < 160 && entry > last; i++) {
      float d = distance(shape, at(shape, ray, entry), 0, false);
      if (d < surface) break;
      entry -= fmaxf((d - surface) * ray.share, shortest);
    }
    entry = fmaxf(entry, last);
    if (exit - entry > LEAST_GAP * half) {
      out[0] = exit, out[1] = entry;
      return true;
    }
    z = entry - shortest;
  }
  return false;
}
FN Vec normal(const Shape& shape, Vec p) {
  const float e = .004f;
  float a = distance(shape, p + vec(e, -e, -e), 0, true), b = distance(shape, p + vec(-e, -e, e), 0, true);
  float c = distance(shape, p + vec(-e, e, -e), 0, true), d = distance(shape, p + vec(e, e, e), 0, true);
  return unit(vec(a - b - c + d, -a - b + c + d, -a + b - c + d));
}

// ---- Colours ----

FN Vec texture(const float* m, Vec p, int salt) {
  int pattern = (int)m[M_PATTERN];
  float f = m[M_FREQUENCY], phase = m[M_PHASE], sharp = m[M_SHARPNESS], share = 0.f;
  Vec direction = vec(m + M_DIRECTION);
  if (pattern == STRIPES) {
    share = .5f + sinf(dot(p, direction) * f * 3.f + phase) * sharp;
  } else if (pattern == CHECKS) {
    share = .5f + 8.f * sharp * sinf(p.x * f * 2 + phase) * sinf(p.y * f * 2 + phase * 1.7f) * sinf(p.z * f * 2 + phase * .6f);
  } else if (pattern == CLOUDS) {
    share = .5f + (fractal_noise(p * f, salt + 7) - .5f) * 3.f * sharp;
  } else if (pattern == FADE) {
    share = .5f + dot(p, direction) * .8f;
  } else if (pattern == SPLIT) {
    share = dot(p, direction) > phase * .12f - .35f ? 1.f : 0.f;
  } else if (pattern == DOTS) {
    Vec q = p * f;
    int i = (int)floorf(q.x), j = (int)floorf(q.y), k = (int)floorf(q.z);
    Vec shift = vec(hash(i, j, k, salt), hash(i, j, k, salt + 1), hash(i, j, k, salt + 2));
    share = length(q - vec(i, j, k) - vec(.3f, .3f, .3f) - shift * .4f) < .33f ? 1.f : 0.f;
  } else if (pattern == RINGS) {
    float r = length2(p.x + direction.x * .3f, p.z + direction.z * .3f);
    share = .5f + .5f * sinf(r * f * 4.f + fractal_noise(p * 3.f, salt) * 3.f);
  }
  Vec c = mix(vec(m + M_COLOUR), vec(m + M_SECOND), clamp(share, 0.f, 1.f));
  if (m[M_GRAIN] > 0.f) c = c * (1.f + m[M_GRAIN] * (fractal_noise(p * m[M_GRAIN_FREQUENCY], salt + 31) - .5f) * 2.f);
  return vec(clamp(c.x, 0, 1), clamp(c.y, 0, 1), clamp(c.z, 0, 1));
}
FN Vec albedo(const Shape& shape, const float* materials, Vec p, Vec n, int part) {
  const float* view = shape.view;
  int salt = (int)view[V_SALT];
  Vec axis = vec(view + V_PRINT_AXIS);
  if (view[V_PRINT] > 0.f && dot(n, axis) > .6f &&
      fractal_noise((p - axis * dot(p, axis)) * view[V_PRINT_FREQUENCY], salt + 91) > .5f)
    return vec(view + V_PRINT_RGB);
  return texture(materials + part * MATERIAL_LENGTH, p, salt);
}
// Colour of a front point in sun and sky, with a soft shadow and darkened corners.
FN Vec lit(const Shape& shape, const float* material, Vec p, Vec n, Vec colour) {
  const float* view = shape.view;
  Vec sun = vec(view + V_SUN), toward = to_shape(view + V_TURN, sun), facing = to_camera(view + V_TURN, n);
  float shade = view[V_SHADE], shadow = 1.f, open = 1.f;
  if (shade > 0.f) {
    Vec start = p + n * .02f;
    float t = .03f;
    for (int i = 0; i < 20 && t < 1.6f; i++) {
      float d = distance(shape, start + toward * t, 0, false);
      shadow = fminf(shadow, clamp(.5f + d * 4.f / t, 0.f, 1.f));
      if (d < .001f) { shadow = 0.f; break; }
      t += fmaxf(d, .03f);
    }
    float blocked = 0.f, weight = 1.f;
    for (int i = 1; i < 5; i++, weight *= .7f)
      blocked += weight * fmaxf(.06f * i - distance(shape, p + n * (.06f * i), 0, false), 0.f);
    open = clamp(1.f - 2.2f * blocked, .15f, 1.f);
    shadow = 1.f + (shadow - 1.f) * shade, open = 1.f + (open - 1.f) * shade;
  }
  Vec sun_rgb = vec(view + V_SUN_RGB);
  Vec ambient = mix(vec(view + V_GROUND_RGB), vec(view + V_SKY_RGB), .5f + .5f * facing.y) * open;
  Vec out = colour * (sun_rgb * (fmaxf(dot(facing, sun), 0.f) * shadow) + ambient);
  float gloss = material[M_GLOSS];
  if (gloss > 0.f)
    out = out + sun_rgb * (gloss * shadow * powf(fmaxf(dot(facing, unit(sun + vec(0, 0, 1))), 0.f), material[M_SHINE]));
  return vec(clamp(out.x, 0, 1.5f), clamp(out.y, 0, 1.5f), clamp(out.z, 0, 1.5f));
}

// ---- One pixel ----

FN void put(float* out, long plane_size, int plane, Vec v) {
  out[plane * plane_size] = v.x, out[(plane + 1) * plane_size] = v.y, out[(plane + 2) * plane_size] = v.z;
}
// `out` points at the pixel in the first plane. silhouette: one plane, coarse. Planes of a miss stay as they are (zero).
FN void pixel(const Shape& shape, const float* materials, float* out, int row, int column, int side, int silhouette) {
  const float* view = shape.view;
  float half = view[V_HALF], pixel_size = 2.f / side;
  float x = view[V_CENTRE] + half * ((column + .5f) * pixel_size - 1.f);
  float y = view[V_CENTRE + 1] - half * ((row + .5f) * pixel_size - 1.f);
  float surface = .0015f * half;
  Ray ray = make_ray(view, x, y);
  if (ray.end < 0.f) return;
  float first = enter(shape, ray, ray.end, 1, silhouette ? 4 * surface : surface, silhouette ? 70 : 140);
  if (first == NOWHERE) return;
  out[0] = 1.f;
  if (silhouette) return;

  long size = (long)side * side;
  float last = enter(shape, ray, -ray.end, -1, surface, 140);
  if (last > first) last = first;  // also when nothing was found
  float gap[2] = {.5f * (first + last), .5f * (first + last)};
  bool hollow = find_gap(shape, ray, first, last, surface, half, gap);
  out[P_LAYERS * size] = first, out[(P_LAYERS + 1) * size] = gap[0];
  out[(P_LAYERS + 2) * size] = gap[1], out[(P_LAYERS + 3) * size] = last;
  out[P_HOLLOW * size] = hollow;

  Vec front = at(shape, ray, first), back = at(shape, ray, last);
  int front_part, back_part;
  distance(shape, front, &front_part, true);
  distance(shape, back, &back_part, true);
  Vec n = normal(shape, front);
  Vec colour = albedo(shape, materials, front, n, front_part);
  put(out, size, P_RGB, lit(shape, materials + front_part * MATERIAL_LENGTH, front, n, colour));
  put(out, size, P_FRONT_RGB, colour);
  put(out, size, P_BACK_RGB, albedo(shape, materials, back, normal(shape, back), back_part));
}

// shapes (B, MAX_PRIMITIVES, ROW_LENGTH), counts (B), views (B, VIEW_LENGTH), materials (B, MATERIALS, MATERIAL_LENGTH)
// -> out (B, PLANE_COUNT or 1, side, side), zero before the call. Returns 0 or the CUDA error.
#ifdef __CUDACC__
__global__ void __launch_bounds__(128) picture(const float* shapes, const int* counts, const float* views,
                                               const float* materials, float* out, int side, int silhouette) {
  __shared__ float rows[MAX_PRIMITIVES * ROW_LENGTH];
  __shared__ float view[VIEW_LENGTH];
  __shared__ float paint[MATERIALS * MATERIAL_LENGTH];
  long object = blockIdx.y;
  int count = counts[object];
  for (int i = threadIdx.x; i < count * ROW_LENGTH; i += blockDim.x) rows[i] = shapes[object * MAX_PRIMITIVES * ROW_LENGTH + i];
  for (int i = threadIdx.x; i < VIEW_LENGTH; i += blockDim.x) view[i] = views[object * VIEW_LENGTH + i];
  for (int i = threadIdx.x; i < MATERIALS * MATERIAL_LENGTH; i += blockDim.x)
    paint[i] = materials[object * MATERIALS * MATERIAL_LENGTH + i];
  __syncthreads();
  int across = (side + 7) / 8, row = blockIdx.x / across * 16 + threadIdx.x / 8;  // tiles of 8 x 16 pixels
  int column = blockIdx.x % across * 8 + threadIdx.x % 8;
  if (row >= side || column >= side) return;
  Shape shape = {rows, count, view};
  long planes = silhouette ? 1 : PLANE_COUNT;
  pixel(shape, paint, out + (object * planes * side + row) * side + column, row, column, side, silhouette);
}
extern "C" int render(const float* shapes, const int* counts, const float* views, const float* materials, float* out,
                      int objects, int side, int silhouette, void* stream) {
  dim3 grid((side + 7) / 8 * ((side + 15) / 16), objects);
  picture<<<grid, 128, 0, (cudaStream_t)stream>>>(shapes, counts, views, materials, out, side, silhouette);
  return (int)cudaGetLastError();
}
#else
extern "C" int render(const float* shapes, const int* counts, const float* views, const float* materials, float* out,
                      int objects, int side, int silhouette, void*) {
  long planes = silhouette ? 1 : PLANE_COUNT;
#pragma omp parallel for collapse(2) schedule(dynamic, 4)
  for (long object = 0; object < objects; object++)
    for (int row = 0; row < side; row++) {
      Shape shape = {shapes + object * MAX_PRIMITIVES * ROW_LENGTH, counts[object], views + object * VIEW_LENGTH};
      const float* paint = materials + object * MATERIALS * MATERIAL_LENGTH;
      for (int column = 0; column < side; column++)
        pixel(shape, paint, out + (object * planes * side + row) * side + column, row, column, side, silhouette);
    }
  return 0;
}
#endif
