// One scene from one seed: the camera, the room, what stands where, and how the photo is taken.
#pragma once
#include "compose.h"

enum Kind { THING, CARRIER, NESTED, PERSON, SEATED, CAR, ANIMAL, RIDER, KINDS };  // in the order of training/masks/bank.py
constexpr int ELEVATIONS = 9;                                     // bins of 10 degrees, from which a sprite is seen

struct Index {
  const int *sprites;  // first sprites of sets, grouped by kind and elevation
  const int *first;    // (KINDS * ELEVATIONS + 1,) where each group begins
};

// The first sprite of a set of this kind seen from about this elevation; of any thing where the bank has none of the
// kind; -1 where it has no things either. No recursion: a card could not tell how much stack that needs.
FN int picked(Random &random, const Index &index, int kind, float elevation) {
  for (int instead = 0; instead < 2; instead++) {
    int bin = (int)clamped(elevation / 0.1745f + 0.4f * random.normal(), 0, ELEVATIONS - 1);
    for (int step = 0; step < 2 * ELEVATIONS; step++) {  // the nearest elevation that the bank has
      int tried = bin + (step & 1 ? -(step + 1) / 2 : step / 2);
      if (tried < 0 || tried >= ELEVATIONS) continue;
      int group = kind * ELEVATIONS + tried, count = index.first[group + 1] - index.first[group];
      if (count > 0) return index.sprites[index.first[group] + random.below(count)];
    }
    if (kind == THING) return -1;
    kind = THING;
  }
  return -1;
}

struct Point {
  float x, y, z;  // camera frame: right, down, forward
};

struct Standing {
  int sprite;      // first of its set
  Point foot;
  float unit;      // world length of one sprite unit
  float mirrored;  // -1 or 1
  float turn;      // in the picture
  bool hung;       // on a wall or in the air, over its foot's place
};

FN float extent_of(const Sprite &s) { return fmaxf(s.height, s.width); }

// Draw one sprite as part of `s`, whose foot is that of the first sprite of the set.
FN Layer layer_of(const Scene &scene, const Bank &bank, const Standing &s, int sprite, int side) {
  const Sprite &first = bank.sprites[s.sprite], &own = bank.sprites[sprite];
  Layer l = {};
  l.sprite = (float)sprite;
  float size = scene.focal * s.unit / (s.foot.z + s.unit * first.foot_z);  // view units per sprite unit
  float column = scene.focal * s.foot.x / s.foot.z, row = scene.focal * s.foot.y / s.foot.z;
  float scale = 1 / (size * own.half), c = cosf(s.turn), q = sinf(s.turn);
  l.xx = s.mirrored * c * scale;
  l.xy = s.mirrored * q * scale;
  l.yx = -q * scale;
  l.yy = c * scale;
  l.x0 = (first.foot_x - own.centre_x) / own.half - l.xx * column - l.xy * row;
  l.y0 = (own.centre_y - first.foot_y) / own.half - l.yx * column - l.yy * row;
  l.foot_row = (own.centre_y - first.foot_y) / own.half;
  float texels = 0.5f * scale * bank.side / side;
  l.level = clamped(floorf(log2f(fmaxf(texels, 1)) + 0.4f), 0, bank.levels - 1);
  l.depth = s.foot.z + s.unit * first.foot_z;
  l.depth_per_z = s.unit;
  return l;
}

FN void dressed(Layer &l, Random &random, float similar) {
  Rgb tint = {expf(0.06f * random.normal()), expf(0.06f * random.normal()), expf(0.06f * random.normal())};
  l.tint_r = tint.r;
  l.tint_g = tint.g;
  l.tint_b = tint.b;
  l.brightness = expf(0.25f * random.normal());
  l.fade = similar * random.between(0.3f, 1);
  l.grain = random.chance(0.3f) ? random.between(0, 0.3f) : 0;
  l.grain_frequency = random.log_between(2, 15);
  l.print = random.chance(0.12f) ? 1.f + random.below(2) : 0.f;
  l.print_strength = random.between(0.3f, 1);
  l.print_frequency = random.log_between(3, 14);
}

struct Light {
  float strength, squash, shear, contact, mirror, softness;
};

FN void shaded(Layer &l, const Scene &scene, const Sprite &first, const Standing &s, const Light &light, int levels) {
  l.shadow = light.strength;
  l.shadow_level = fminf(l.level + light.softness, levels - 1.f);
  // The silhouette, squashed towards the foot and sheared.
  float up = 1 / light.squash, shift = l.foot_row * (1 - up);
  l.shadow_yx = l.yx * up;
  l.shadow_yy = l.yy * up;
  l.shadow_y0 = l.y0 * up + shift;
  l.shadow_xx = l.xx + light.shear * l.shadow_yx;
  l.shadow_xy = l.xy + light.shear * l.shadow_yy;
  l.shadow_x0 = l.x0 + light.shear * (l.shadow_y0 - l.foot_row);
  l.contact = light.contact;
  l.contact_x = scene.focal * s.foot.x / s.foot.z;
  l.contact_y = scene.focal * s.foot.y / s.foot.z;
  l.contact_half_width = 0.7f * first.width * s.unit * scene.focal / s.foot.z;
  float fall = s.foot.y / s.foot.z * scene.pitch_cos + scene.pitch_sin;
  l.contact_half_height = l.contact_half_width * clamped(fall, 0.15f, 1);
  l.mirror = light.mirror;
}

FN void coloured(Surface &s, Rgb first, Rgb second) {
  s.r = first.r, s.g = first.g, s.b = first.b;
  s.r2 = second.r, s.g2 = second.g, s.b2 = second.b;
}

FN Surface surface(Random &random, float low, float high) {
  Surface s = {};
  Rgb first = random.colour(), second = random.chance(0.6f) ? first * random.between(0.4f, 1.3f) : random.colour();
  float strength = random.chance(0.7f) ? random.next() : 0;
  second = mix(first, second, strength);
  coloured(s, first, second);
  s.pattern = (float)random.below(7);
  s.frequency = random.log_between(low, high);
  s.aspect = s.pattern == 1 ? random.log_between(2, 8) : random.log_between(0.8f, 2);
  float turn = random.chance(0.5f) ? 0 : random.between(0, 6.28f);
  s.turn_sin = sinf(turn);
  s.turn_cos = cosf(turn);
  s.joint = random.between(0.01f, 0.1f);
  s.grain = random.chance(0.7f) ? random.between(0, 0.3f) : 0;
  s.grain_frequency = random.log_between(2, 40);
  return s;
}

FN Rgb green(Random &random) {
  float light = random.between(0.25f, 1);  // a statement of its own: compilers differ in the order within one
  return Rgb{random.between(0.1f, 0.45f), random.between(0.3f, 0.6f), random.between(0.03f, 0.25f)} * light;
}

// What lies outside: grass, earth, sand, asphalt.
FN void weathered(Surface &s, Random &random) {
  Rgb grey = Rgb{1, 1, 1} * random.between(0.15f, 0.6f), earth = Rgb{0.5f, 0.38f, 0.25f} * random.between(0.3f, 1.3f);
  Rgb first = random.chance(0.45f) ? green(random) : random.chance(0.5f) ? grey : earth;
  coloured(s, first, first * random.between(0.6f, 1.5f));
  float at = random.next();
  s.pattern = at < 0.4f ? 0.f : at < 0.7f ? 5.f : 6.f;
  s.grain = random.between(0.1f, 0.4f);
  s.grain_frequency = random.log_between(8, 60);
}

// Leaves of a hedge, a wood or tall grass at this distance, mostly green.
FN Surface thicket(Random &random, float distance) {
  Surface s = surface(random, 3, 14);
  s.pattern = 6;
  s.frequency = random.log_between(20, 120) / distance;
  s.aspect = random.chance(0.2f) ? random.between(0.15f, 0.4f) : random.between(0.7f, 1.3f);  // stems stand upright
  s.turn_sin = 0;
  s.turn_cos = 1;
  if (random.chance(0.75f)) {
    Rgb leaf = green(random);
    coloured(s, leaf, leaf * Rgb{random.between(0.7f, 2), random.between(0.6f, 1.4f), random.between(0.5f, 1.5f)});
  }
  return s;
}

FN Panel panel(Random &random, const Scene &scene) {
  Panel p = {};
  p.on = random.chance(0.25f) ? 2.f : 1.f;
  if (p.on == 1 && scene.wall == 0) return Panel{};
  bool opening = p.on == 1 && random.chance(0.6f);
  float reach = p.on == 1 ? scene.wall_distance : 2.f;
  p.x = random.between(-0.9f, 0.9f) * reach;
  p.y = p.on == 1 ? random.between(0.2f, 1.8f) : random.between(0.3f, 4);
  p.half_width = random.log_between(0.06f, 0.5f) * fmaxf(reach, 0.7f);
  p.half_height = random.log_between(0.06f, 0.5f) * fmaxf(reach, 0.7f);
  p.frame = random.chance(0.7f) ? random.between(0.03f, 0.2f) : 0;
  p.label = opening ? 0.f : IGNORE_LABEL;  // a picture or a rug may count as an object: the net is left free
  Rgb inside = random.colour(), frame = random.colour();
  if (opening) {
    p.glow = 1;
    p.bars = (float)random.below(3);
    // Most openings are bright, some show a dark room.
    inside = random.chance(0.75f) ? inside * 0.3f + Rgb{0.65f, 0.7f, 0.75f} * random.between(0.8f, 1.4f) : inside * 0.25f;
  }
  p.structure = random.chance(0.6f) ? random.between(0.1f, 0.8f) : 0;
  p.r = inside.r, p.g = inside.g, p.b = inside.b;
  p.frame_r = frame.r, p.frame_g = frame.g, p.frame_b = frame.b;
  return p;
}

FN void photographed(Scene &s, Random &random) {
  s.exposure = expf(0.1f + 0.25f * random.normal());
  s.balance_r = 1 + 0.06f * random.normal();
  s.balance_g = 1 + 0.06f * random.normal();
  s.balance_b = 1 + 0.06f * random.normal();
  s.gamma = expf(-0.1f + 0.3f * random.normal());
  s.contrast = expf(0.2f * random.normal());
  s.saturation = random.chance(0.12f) ? 0 : random.chance(0.7f) ? 1 : random.between(0.4f, 1.3f);
  s.haze = random.chance(0.15f) ? random.log_between(0.01f, 0.3f) : 0;
  Rgb haze = random.colour(0.9f);
  s.haze_r = haze.r, s.haze_g = haze.g, s.haze_b = haze.b;
  s.vignette = random.chance(0.3f) ? random.between(0, 1) : 0;
  s.patches = random.chance(0.18f) ? random.between(0.1f, 0.7f) : 0;
  s.patches_scale = random.log_between(1.5f, 6);
  s.blur = random.chance(0.5f) ? random.between(0.3f, 1.7f) : 0;
  s.noise = powf(random.between(0, 0.05f), 1.3f);
  s.jpeg = random.chance(0.35f) ? random.between(0.02f, 0.14f) : 0;
  s.drawing = random.chance(0.04f) ? 1.f : 0.f;
  s.line = random.between(0.6f, 1);
}

struct Recipe {  // how likely each kind is, and its size in camera heights
  float share[KINDS], low[KINDS], high[KINDS];
};

FN Recipe recipe(int place) {
  //  thing  carrier nested person seated  car    animal rider
  const Recipe recipes[3] = {
      {{0.36f, 0.24f, 0.13f, 0.12f, 0.11f, 0.00f, 0.04f, 0.00f},  // room
       {0.08f, 0.35f, 0.12f, 0.90f, 0.70f, 0.80f, 0.20f, 0.9f},
       {0.50f, 0.90f, 0.40f, 1.20f, 0.95f, 1.00f, 0.60f, 1.2f}},
      {{0.57f, 0.10f, 0.30f, 0.00f, 0.00f, 0.00f, 0.03f, 0.00f},  // table top
       {0.08f, 0.30f, 0.15f, 0.90f, 0.70f, 0.80f, 0.15f, 0.9f},
       {0.70f, 0.80f, 0.70f, 1.20f, 0.95f, 1.00f, 0.60f, 1.2f}},
      {{0.23f, 0.03f, 0.02f, 0.24f, 0.02f, 0.22f, 0.17f, 0.07f},  // street, field
       {0.15f, 0.40f, 0.15f, 0.95f, 0.75f, 1.50f, 0.30f, 0.9f},
       {1.20f, 0.80f, 0.50f, 1.20f, 0.95f, 4.00f, 1.80f, 1.2f}},
  };
  return recipes[place];
}

FN int kind_of(Random &random, const Recipe &r) {
  float at = random.next();
  for (int kind = 0; kind < KINDS; kind++) {
    if (at < r.share[kind]) return kind;
    at -= r.share[kind];
  }
  return THING;
}

// Where on the ground a thing of this size can be seen at a sensible size; its sprite is chosen for that place.
// `close`: whatever its size, it is what the photo was taken of, fills half of it or more and may be cut by its edges.
FN bool stood(Random &random, const Scene &scene, const Bank &bank, const Index &index, const Recipe &r, int kind,
              int same, float around, float spread, bool close, const Standing *others, int count, Standing *out) {
  float horizon = -scene.focal * scene.pitch_sin / fmaxf(scene.pitch_cos, 0.05f);
  float size = random.log_between(r.low[kind], r.high[kind]);
  for (int attempt = 0; attempt < 24; attempt++) {
    float x = around + spread * random.between(-0.55f, 0.55f);
    float y = random.between(fmaxf(horizon + 0.02f, -0.5f), close ? 0.85f : 0.6f);
    float down = y / scene.focal, fall = down * scene.pitch_cos + scene.pitch_sin;
    if (fall < 1 / FAR_DEPTH) continue;
    float seen = size * scene.focal * fall;
    if (close) {
      seen = random.between(0.45f, 1.25f);
      size = seen / (scene.focal * fall);
      if (fall * size > 1.1f) continue;
    } else {
      if (fall * size > 0.8f || seen < 0.05f || seen > 1.1f) continue;
      if (seen < 0.18f && random.chance(0.6f)) continue;
    }
    if (y - seen * scene.pitch_cos < -0.55f && random.chance(close ? 0.4f : 0.8f)) continue;  // its top would be cut off
    float elevation = asinf(fall / sqrtf(1 + down * down));
    out->sprite = same >= 0 ? same : picked(random, index, kind, elevation);
    if (out->sprite < 0) return false;
    out->foot = {x / scene.focal / fall, down / fall, 1 / fall};
    out->unit = size / extent_of(bank.sprites[out->sprite]);
    out->mirrored = random.chance(0.5f) ? -1.f : 1.f;
    out->turn = 0.02f * random.normal();
    bool apart = true;  // from what stands there already
    for (int k = 0; k < count; k++) {
      float x_gap = others[k].foot.x - out->foot.x, z_gap = (others[k].foot.z - out->foot.z) / fmaxf(scene.pitch_cos, 0.3f);
      float reach = 0.4f * (bank.sprites[others[k].sprite].width * others[k].unit + bank.sprites[out->sprite].width * out->unit);
      apart = apart && x_gap * x_gap + z_gap * z_gap > reach * reach;
    }
    if (!apart) continue;
    out->hung = kind == THING && random.chance(0.08f);
    if (out->hung) {
      float lift = random.between(0.2f, 1.2f);
      out->foot.y -= lift * scene.pitch_cos;
      out->foot.z -= lift * scene.pitch_sin;
      if (out->foot.z < 0.3f) return false;
    }
    return true;
  }
  return false;
}

// Something small on the level top of what `below` is.
FN bool carried(Random &random, const Bank &bank, const Index &index, const Standing &below, float elevation, Standing *out) {
  const Sprite &s = bank.sprites[below.sprite];
  out->sprite = picked(random, index, random.chance(0.2f) ? NESTED : THING, elevation);
  if (out->sprite < 0) return false;
  const Sprite &own = bank.sprites[out->sprite];
  float room = fminf(s.top_half_width, s.top_half_length) * below.unit;
  float size = random.log_between(0.25f, 1.2f) * room;
  float a = random.between(-0.85f, 0.85f) * s.top_half_width, b = random.between(-0.85f, 0.85f) * s.top_half_length;
  // up x right: the second horizontal axis
  float ax = s.up_y * s.right_z - s.up_z * s.right_y, ay = s.up_z * s.right_x - s.up_x * s.right_z,
        az = s.up_x * s.right_y - s.up_y * s.right_x;
  float x = s.top * s.up_x + a * s.right_x + b * ax, y = s.top * s.up_y + a * s.right_y + b * ay,
        z = s.top * s.up_z + a * s.right_z + b * az;
  out->foot = {below.foot.x + below.mirrored * below.unit * x, below.foot.y - below.unit * y,
               below.foot.z - below.unit * z - 0.02f * size};
  out->unit = size / extent_of(own);
  out->mirrored = random.chance(0.5f) ? -1.f : 1.f;
  out->turn = 0.02f * random.normal();
  out->hung = false;
  return out->foot.z > 0.1f;
}

struct Arranged {
  Scene *scene;
  Surface *surfaces;
  Panel *panels;
  Layer *layers;
};

struct Drawer {  // hands out layers and labels
  const Arranged &out;
  const Bank &bank;
  int side, used = 0, label = 0;

  // `soft`: far out of focus; such things count neither as objects nor as background.
  FN void draw(Random &random, const Standing &s, float similar, const Light *light, bool soft = false) {
    const Sprite &first = bank.sprites[s.sprite];
    int members = (int)first.members;
    if (used + members > LAYERS) return;
    for (int m = 0; m < members; m++) {
      Layer l = layer_of(*out.scene, bank, s, s.sprite + m, side);
      dressed(l, random, similar);
      l.label = soft ? IGNORE_LABEL : (float)++label;
      if (soft) l.level = fminf(l.level + 3, bank.levels - 1.f);
      if (light && m == 0) shaded(l, *out.scene, first, s, *light, bank.levels);
      out.layers[used++] = l;
    }
  }
};

FN void strewn(Random &random, const Arranged &out, const Bank &bank, const Index &index, int side) {
  // No ground, no common scale: sprites anywhere, in any order. Depth only keeps the order.
  Drawer drawer = {out, bank, side};
  float dense = random.chance(0.12f) ? random.between(0.08f, 0.25f) : random.between(0.3f, 1);
  bool crowd = random.chance(0.4f);
  float x = random.between(-0.3f, 0.3f), y = random.between(-0.25f, 0.3f), similar = random.chance(0.25f) ? random.between(0.2f, 0.75f) : 0;
  int same = random.chance(0.2f) ? picked(random, index, THING, random.between(0, 0.9f)) : -1;
  Light wall = {0.75f * random.next() * (random.chance(0.75f) ? 1.f : 0.f), 1.02f, 0.05f * random.normal(), 0, 0, (float)random.below(3)};
  for (int k = 0; k < LAYERS; k++) {
    float size_class = random.next();
    float size = size_class < 0.25f ? random.log_between(0.38f, 0.95f) : size_class < 0.68f ? random.log_between(0.18f, 0.4f) : random.log_between(0.07f, 0.19f);
    if (!random.chance(dense * (size_class < 0.25f ? 0.6f : 1))) continue;
    Standing s;
    int kind = random.chance(0.6f) ? THING : random.below(KINDS);
    s.sprite = same >= 0 && random.chance(0.8f) ? same : picked(random, index, kind, random.between(0, 1.2f));
    if (s.sprite < 0) continue;
    const Sprite &first = bank.sprites[s.sprite];
    float depth = 3 + 0.5f * (LAYERS - k);
    float u = crowd ? x + 0.16f * random.normal() : random.between(-0.5f, 0.5f);
    float v = (crowd ? y + 0.13f * random.normal() : random.between(-0.5f, 0.5f)) + 0.5f * size * first.up_y;
    s.unit = size * depth / out.scene->focal / extent_of(first);
    s.foot = {u * depth / out.scene->focal, v * depth / out.scene->focal, depth - s.unit * first.foot_z};
    s.hung = false;
    s.mirrored = random.chance(0.5f) ? -1.f : 1.f;
    s.turn = random.chance(0.8f) ? 0.06f * random.normal() : random.between(-3.1f, 3.1f);
    int before = drawer.used;
    drawer.draw(random, s, similar, &wall);
    for (int l = before; l < drawer.used; l++) {
      out.layers[l].depth = depth;
      out.layers[l].depth_per_z = fminf(0.1f, s.unit);
      out.layers[l].shadow_x0 += 0.04f * random.normal();
      out.layers[l].contact = 0;
    }
  }
}

FN void furnished(Random &random, const Arranged &out, const Bank &bank, const Index &index, int side, int place) {
  Scene &scene = *out.scene;
  Recipe r = recipe(place);
  int wanted = random.chance(0.1f) ? 1 + random.below(2) : 2 + random.below(13), count = 0;
  bool crowd = random.chance(0.2f);
  float around = crowd ? random.between(-0.3f, 0.3f) : 0, spread = crowd ? 0.35f : 1;
  float similar = random.chance(0.2f) ? random.between(0.2f, 0.75f) : 0;
  int same_kind = random.chance(0.15f) ? kind_of(random, r) : -1, same = -1;
  bool close_up = random.chance(0.25f);
  Standing roots[LAYERS];
  for (int k = 0; k < wanted && count < LAYERS; k++) {
    int kind = same_kind >= 0 && random.chance(0.8f) ? same_kind : kind_of(random, r);
    bool close = close_up && k == 0;
    if (stood(random, scene, bank, index, r, kind, kind == same_kind ? same : -1, close ? 0 : around,
              close ? 0.6f : spread, close, roots, count, &roots[count])) {
      if (kind == same_kind && same < 0 && random.chance(0.5f)) same = roots[count].sprite;
      count++;
    }
  }
  for (int i = 1; i < count; i++)  // far to near
    for (int j = i; j > 0 && roots[j].foot.z > roots[j - 1].foot.z; j--) {
      Standing t = roots[j];
      roots[j] = roots[j - 1];
      roots[j - 1] = t;
    }
  Light light = {random.chance(0.75f) ? random.between(0, 0.75f) : 0, random.between(0.12f, 0.5f) * (random.chance(0.3f) ? -1.f : 1.f),
                 0.9f * random.normal(), random.chance(0.8f) ? random.between(0.1f, 0.8f) : 0,
                 random.chance(0.15f) ? random.between(0.05f, 0.5f) : 0, (float)random.below(4)};
  Drawer drawer = {out, bank, side};
  float wall = 0.3f, corner = 0.2f, deepest = 0.3f;
  int soft = random.chance(0.1f) ? count / 2 : 0;
  if (count > 0 && random.chance(0.2f)) {  // an open lens, sharp where one of the things stands
    scene.focus = 1 / roots[random.below(count)].foot.z;
    scene.defocus = random.log_between(2, 20);
  }
  for (int k = 0; k < count; k++) {
    bool blurred = scene.defocus * fabsf(1 / roots[k].foot.z - scene.focus) > 2.2f;
    drawer.draw(random, roots[k], similar, roots[k].hung ? nullptr : &light, k < soft || blurred);
    const Sprite &s = bank.sprites[roots[k].sprite];
    Point f = roots[k].foot;
    float ahead = f.z * scene.pitch_cos - f.y * scene.pitch_sin, reach = 0.6f * s.width * roots[k].unit;
    deepest = fmaxf(deepest, ahead);
    wall = fmaxf(wall, f.x * scene.wall_sin + ahead * scene.wall_cos + reach);
    corner = fmaxf(corner, f.x * scene.wall_cos - ahead * scene.wall_sin + reach);
    if (s.top > 0 && k >= soft && random.chance(0.75f)) {
      Standing things[4];
      int some = 1 + random.below(4), made = 0;
      float elevation = asinf(clamped((f.y * scene.pitch_cos + f.z * scene.pitch_sin) / sqrtf(f.y * f.y + f.z * f.z), 0, 1));
      for (int n = 0; n < some; n++) made += carried(random, bank, index, roots[k], elevation, &things[made]);
      for (int n = 0; n < made; n++) {  // far to near
        int farthest = n;
        for (int m = n + 1; m < made; m++)
          if (things[m].foot.z > things[farthest].foot.z) farthest = m;
        Standing t = things[n];
        things[n] = things[farthest];
        things[farthest] = t;
        Light faint = light;
        faint.mirror = 0;
        drawer.draw(random, things[n], similar, &faint);
      }
    }
  }
  scene.wall_distance = wall + random.log_between(0.02f, place == 2 ? 12.f : 3.f);
  if (place == 2 ? random.chance(0.55f) : random.chance(0.06f)) {
    scene.thicket_distance = 1.05f * deepest + random.log_between(0.05f, 10);
    scene.thicket_height = random.chance(0.3f) ? random.log_between(0.15f, 0.8f) : random.log_between(0.8f, 12);
    out.surfaces[3] = thicket(random, scene.thicket_distance);
    if (random.chance(0.5f)) scene.wall = 0;
  }
  if (place == 2 && random.chance(0.4f))
    for (int k = 1; k < 3; k++) {
      out.surfaces[k].pattern = 7;
      out.surfaces[k].frequency = random.log_between(0.4f, 2.5f);
      out.surfaces[k].turn_sin = 0;
      out.surfaces[k].turn_cos = 1;
    }
  scene.corner_distance = corner + random.log_between(0.02f, 3);
}

FN void arrange(uint32_t seed, const Bank &bank, const Index &index, int side, const Arranged &out) {
  Random random = {seed, 0};
  Scene &scene = *out.scene;
  scene = Scene{};
  scene.seed = (float)(hashed(seed) & 0xffffff);
  for (int k = 0; k < LAYERS; k++) {
    out.layers[k] = Layer{};
    out.layers[k].sprite = -1;
  }
  scene.placed = random.chance(0.72f) ? 1.f : 0.f;
  float at = random.next();
  int place = at < 0.45f ? 0 : at < 0.72f ? 1 : 2;
  scene.focal = 0.5f / tanf(0.5f * random.between(0.55f, 1.35f));
  float pitch = place == 1 ? random.between(0.15f, 1.5f) : place == 0 ? random.between(-0.05f, 0.7f) : random.between(-0.1f, 0.35f);
  scene.pitch_sin = sinf(pitch);
  scene.pitch_cos = cosf(pitch);
  float roll = random.chance(0.1f) ? 0.15f * random.normal() : 0.03f * random.normal();
  scene.roll_sin = sinf(roll);
  scene.roll_cos = cosf(roll);
  scene.wall = place != 2 || random.chance(0.5f) ? (random.chance(0.85f) ? 1.f : 0.f) : 0.f;
  float yaw = random.chance(0.5f) ? 0.1f * random.normal() : random.between(-0.8f, 0.8f);
  scene.wall_sin = sinf(yaw);
  scene.wall_cos = cosf(yaw);
  scene.corner = random.chance(0.4f) ? 1.f : 0.f;
  scene.wall_distance = random.between(0.5f, 6);
  scene.corner_distance = random.between(0.5f, 3);
  Rgb sky = random.chance(0.6f) ? Rgb{0.55f, 0.7f, 0.9f} * random.between(0.7f, 1.1f) : random.colour(0.9f);
  scene.sky_r = sky.r, scene.sky_g = sky.g, scene.sky_b = sky.b;
  scene.fractal = random.chance(scene.placed > 0 ? 0.1f : 0.4f) ? 1.f + random.below(2) : 0.f;
  if (random.chance(0.15f)) {
    scene.sun = random.between(0.3f, 1.5f);
    scene.sun_x = random.between(-1, 1);
    scene.sun_z = random.between(0.5f, 3);
    scene.sun_size = random.between(0.15f, 0.8f);
  }
  for (int k = 0; k < SURFACES; k++) out.surfaces[k] = surface(random, k ? 0.8f : 1.5f, k ? 6.f : 12.f);
  if (place == 2 && random.chance(0.6f)) weathered(out.surfaces[0], random);
  if (scene.placed > 0)
    furnished(random, out, bank, index, side, place);
  else
    strewn(random, out, bank, index, side);
  for (int k = 0; k < PANELS; k++) out.panels[k] = random.chance(0.3f) ? panel(random, scene) : Panel{};
  photographed(scene, random);
}
