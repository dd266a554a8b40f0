/* A small Gaussian splat viewer (WebGL2, no library): the scene of report.html, drawn as 3D Gaussian Splatting does.
 *
 * Frame: the camera frame of the photo, OpenCV (x right, y down, z forward). A camera is { R, eye, pivot } with R
 * row-major world-to-view and view = R (x - eye); the photo's camera is R = identity, eye = 0, and K projects view to
 * photo pixels. Turning goes around the pivot.
 * Splats come packed as gaussians/packed.py writes them. Projection: EWA splatting (Zwicker et al. 2001) with the
 * 0.3 px low-pass of Kerbl et al. 2023, drawn far to near with premultiplied alpha.
 */
"use strict";

(() => {
  const root = document.getElementById("viewer");
  const canvas = root.querySelector("canvas");
  const photoLayer = root.querySelector(".photo-layer");
  const fade = root.querySelector("#fade");
  const scene = JSON.parse(document.getElementById("scene-data").textContent);
  const [photoWidth, photoHeight] = scene.size;
  const IDENTITY = [1, 0, 0, 0, 1, 0, 0, 0, 1];
  const TEXELS = 3; // RGBA32F texels a splat takes in the data texture
  const BATCH = 128; // splats in one instance
  const ORDER_ROW = 1024; // width of the texture that holds the order
  const PER_ROW = 680; // 680 * 3 texels: below the 2048 every WebGL2 device allows
  const NEAR = 1e-2; // of the scene's distance: splats closer to the eye are not drawn

  const FRAME_MS = 60; // what a frame may take while the camera moves; fewer splats are drawn when it would take longer
  const TRIAL_STRIDE = 8, MAX_STRIDE = 24; // one in so many splats: in the frame that is timed; at most
  const REST_MS = 200; // without a move until all splats are drawn again

  const VERTEX = `#version 300 es
    precision highp float;
    uniform highp sampler2D splats;
    uniform highp usampler2D order;  // numbers of the splats to draw, far to near
    uniform int count;    // of them
    uniform mat3 R;
    uniform vec3 eye;
    uniform vec4 K;       // fx, fy, cx, cy in canvas pixels
    uniform vec2 size;    // of the canvas in pixels
    uniform float near;
    uniform int lit;      // the one object to show in full colour, or -1 for all
    uniform float widen;  // of variances: 1, or how many splats each one drawn stands for
    out vec4 colour;
    out vec2 sigma;       // distance from the centre in standard deviations
    void main() {
      gl_Position = vec4(0., 0., 2., 1.);  // outside: what happens to splats that are not drawn
      int i = gl_InstanceID * ${BATCH} + (gl_VertexID >> 2), corner = gl_VertexID & 3;
      if (i >= count) return;
      int s = int(texelFetch(order, ivec2(i % ${ORDER_ROW}, i / ${ORDER_ROW}), 0).x);
      ivec2 at = ivec2((s % ${PER_ROW}) * ${TEXELS}, s / ${PER_ROW});
      vec4 a = texelFetch(splats, at, 0), b = texelFetch(splats, at + ivec2(1, 0), 0);
      vec4 c = texelFetch(splats, at + ivec2(2, 0), 0);  // a: mean, alpha; b, c.xy: covariance; c.z: RGB; c.w: object
      vec3 view = R * (a.xyz - eye);
      if (view.z < near) return;
      // The linear approximation breaks down far outside the picture; hold the ray there, as the 3DGS rasteriser does.
      vec2 ray = clamp(view.xy / view.z, (-.3 * size - K.zw) / K.xy, (1.3 * size - K.zw) / K.xy);
      mat3 J = mat3(K.x / view.z, 0., 0., 0., K.y / view.z, 0., -K.xy * ray / view.z, 0.);
      mat3 V = widen * R * mat3(b.x, b.y, b.z, b.y, b.w, c.x, b.z, c.x, c.y) * transpose(R);
      if (view.z * view.z <= V[2][2]) return;  // the eye is inside the splat: linearised there, it fills the picture
      V = J * V * transpose(J);
      float xx = V[0][0] + .3, yy = V[1][1] + .3, xy = V[0][1];
      float sharp = max(V[0][0] * V[1][1] - xy * xy, 0.);
      float middle = .5 * (xx + yy), radius = length(vec2(.5 * (xx - yy), xy));
      vec2 axis = abs(xy) < 1e-5 ? (xx >= yy ? vec2(1., 0.) : vec2(0., 1.)) : normalize(vec2(xy, middle + radius - xx));
      vec2 long_axis = min(sqrt(middle + radius), 1024.) * axis;
      vec2 short_axis = min(sqrt(max(middle - radius, .1)), 1024.) * vec2(-axis.y, axis.x);
      float alpha = a.w * sqrt(sharp / (xx * yy - xy * xy));  // the low-pass spreads a splat, it does not add to it
      if (alpha < 1. / 255.) return;
      vec3 rgb = vec3(floor(c.z / 65536.), mod(floor(c.z / 256.), 256.), mod(c.z, 256.)) / 255.;
      float reach = sqrt(2. * log(255. * alpha));  // beyond it less than one level of 255 is left
      if (lit >= 0 && int(c.w) != lit) { alpha *= .12; rgb = vec3(dot(rgb, vec3(.3, .6, .1))); }
      sigma = reach * vec2(corner & 1, corner >> 1) * 2. - reach;
      vec2 pixel = K.xy * view.xy / view.z + K.zw + sigma.x * long_axis + sigma.y * short_axis;
      gl_Position = vec4(2. * pixel.x / size.x - 1., 1. - 2. * pixel.y / size.y, 0., 1.);
      colour = vec4(rgb, alpha);
    }`;
  const FRAGMENT = `#version 300 es
    precision highp float;
    in vec4 colour;
    in vec2 sigma;
    out vec4 result;
    void main() {
      float alpha = min(.99, colour.a * exp(-.5 * dot(sigma, sigma)));
      if (alpha < 1. / 255.) discard;
      result = vec4(colour.rgb * alpha, alpha);
    }`;

  // ---- small linear algebra, row-major 3x3 -------------------------------------------------------------------------
  const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
  const add = (a, b, k = 1) => [a[0] + k * b[0], a[1] + k * b[1], a[2] + k * b[2]];
  const unit = (a) => { const n = Math.hypot(...a) || 1; return a.map((v) => v / n); };
  const row = (M, i) => M.slice(3 * i, 3 * i + 3);
  const apply = (M, v) => [dot(row(M, 0), v), dot(row(M, 1), v), dot(row(M, 2), v)];
  const transpose = (M) => [M[0], M[3], M[6], M[1], M[4], M[7], M[2], M[5], M[8]];
  const multiply = (A, B) => { const T = transpose(B); return [0, 1, 2].flatMap((i) => apply(T, row(A, i))); };
  function rotation(axis, angle) { // Rodrigues
    const [x, y, z] = unit(axis), c = Math.cos(angle), s = Math.sin(angle), t = 1 - c;
    return [t * x * x + c, t * x * y - s * z, t * x * z + s * y, t * x * y + s * z, t * y * y + c, t * y * z - s * x,
      t * x * z - s * y, t * y * z + s * x, t * z * z + c];
  }

  // ---- data --------------------------------------------------------------------------------------------------------
  async function unpackedBytes() {
    const text = atob(document.getElementById("scene-splats").textContent.trim());
    const packed = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) packed[i] = text.charCodeAt(i);
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  /** Undo gaussians/packed.py: fills `table`, 12 floats a splat in the order that the vertex shader reads. */
  function decode(bytes, table, objectOf) {
    let start = 0, s = 0;
    scene.objects.forEach((object, number) => {
      const n = object.n, block = bytes.slice(start, start + 17 * n);
      const mean = new Uint16Array(block.buffer, 0, 3 * n), scale = block.subarray(6 * n, 9 * n);
      const quat = new Int8Array(block.buffer, 9 * n, 4 * n), rgba = block.subarray(13 * n);
      const low = object.mean_min, step = object.mean_max.map((high, k) => (high - low[k]) / 65535);
      const variance = Float32Array.from({ length: 256 }, (_, level) => Math.exp(
        2 * (object.log_scale_min + (object.log_scale_max - object.log_scale_min) * level / 255)));
      start += 17 * n;
      for (let i = 0; i < n; i++, s++) {
        let w = quat[4 * i], x = quat[4 * i + 1], y = quat[4 * i + 2], z = quat[4 * i + 3];
        const k = 1 / (Math.hypot(w, x, y, z) || 1);
        w *= k; x *= k; y *= k; z *= k;
        const vx = variance[scale[3 * i]], vy = variance[scale[3 * i + 1]], vz = variance[scale[3 * i + 2]];
        const r0 = 1 - 2 * (y * y + z * z), r1 = 2 * (x * y - w * z), r2 = 2 * (x * z + w * y);
        const r3 = 2 * (x * y + w * z), r4 = 1 - 2 * (x * x + z * z), r5 = 2 * (y * z - w * x);
        const r6 = 2 * (x * z - w * y), r7 = 2 * (y * z + w * x), r8 = 1 - 2 * (x * x + y * y);
        const at = 12 * s;
        table[at] = low[0] + step[0] * mean[3 * i];
        table[at + 1] = low[1] + step[1] * mean[3 * i + 1];
        table[at + 2] = low[2] + step[2] * mean[3 * i + 2];
        table[at + 3] = rgba[4 * i + 3] / 255;
        table[at + 4] = r0 * r0 * vx + r1 * r1 * vy + r2 * r2 * vz;
        table[at + 5] = r0 * r3 * vx + r1 * r4 * vy + r2 * r5 * vz;
        table[at + 6] = r0 * r6 * vx + r1 * r7 * vy + r2 * r8 * vz;
        table[at + 7] = r3 * r3 * vx + r4 * r4 * vy + r5 * r5 * vz;
        table[at + 8] = r3 * r6 * vx + r4 * r7 * vy + r5 * r8 * vz;
        table[at + 9] = r6 * r6 * vx + r7 * r7 * vy + r8 * r8 * vz;
        table[at + 10] = 65536 * rgba[4 * i] + 256 * rgba[4 * i + 1] + rgba[4 * i + 2];
        table[at + 11] = number;
        objectOf[s] = number;
      }
    });
  }

  /** Indices of every `stride`-th visible splat, far to near (a counting sort over 65,536 depths); returns how many. */
  function sortByDepth(table, objectOf, visible, camera, stride, work) {
    const [a, b, c] = row(camera.R, 2), offset = -dot(row(camera.R, 2), camera.eye), { depth, order, bins } = work;
    let nearest = Infinity, farthest = -Infinity;
    for (let s = 0, at = 0; s < objectOf.length; s += stride, at += 12 * stride) {
      const z = a * table[at] + b * table[at + 1] + c * table[at + 2] + offset;
      depth[s] = z;
      if (z < nearest) nearest = z;
      if (z > farthest) farthest = z;
    }
    bins.fill(0);
    const scale = (bins.length - 2) / Math.max(farthest - nearest, 1e-9);
    for (let s = 0; s < objectOf.length; s += stride) {
      if (visible[objectOf[s]]) bins[1 + ((farthest - depth[s]) * scale | 0)]++;
    }
    for (let i = 1; i < bins.length; i++) bins[i] += bins[i - 1];
    const count = bins[bins.length - 1];
    for (let s = 0; s < objectOf.length; s += stride) {
      if (visible[objectOf[s]]) order[bins[(farthest - depth[s]) * scale | 0]++] = s;
    }
    return count;
  }

  // ---- WebGL -------------------------------------------------------------------------------------------------------
  function createPainter(gl, table, work) {
    const program = gl.createProgram();
    for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program));
    gl.useProgram(program);
    const uniform = (name) => gl.getUniformLocation(program, name);

    const texture = (unit, name) => {
      gl.activeTexture(gl.TEXTURE0 + unit);
      gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
      gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.NEAREST);
      gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.NEAREST);
      gl.uniform1i(uniform(name), unit);
    };
    texture(0, "splats");
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA32F, PER_ROW * TEXELS, table.length / (PER_ROW * TEXELS * 4), 0, gl.RGBA,
      gl.FLOAT, table);
    texture(1, "order"); // stays the active one
    gl.texStorage2D(gl.TEXTURE_2D, 1, gl.R32UI, ORDER_ROW, work.order.length / ORDER_ROW);

    // Two triangles for each splat of a batch. One instance a splat would be simpler, but instances of four vertices
    // are slow: ten times slower without a GPU.
    const quad = [0, 1, 2, 2, 1, 3];
    const corners = Uint16Array.from({ length: 6 * BATCH }, (_, k) => 4 * Math.floor(k / 6) + quad[k % 6]);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, corners, gl.STATIC_DRAW);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);

    return (camera, K, near, lit, stride, count, sorted) => {
      if (sorted) {
        const rows = Math.ceil(count / ORDER_ROW);
        gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, 0, ORDER_ROW, rows, gl.RED_INTEGER, gl.UNSIGNED_INT, work.order);
      }
      gl.viewport(0, 0, canvas.width, canvas.height);
      gl.clearColor(0, 0, 0, 0);
      gl.clear(gl.COLOR_BUFFER_BIT);
      gl.uniformMatrix3fv(uniform("R"), true, camera.R);
      gl.uniform3fv(uniform("eye"), camera.eye);
      gl.uniform4fv(uniform("K"), K);
      gl.uniform2f(uniform("size"), canvas.width, canvas.height);
      gl.uniform1f(uniform("near"), near);
      gl.uniform1i(uniform("lit"), lit);
      gl.uniform1f(uniform("widen"), stride);
      gl.uniform1i(uniform("count"), count);
      gl.drawElementsInstanced(gl.TRIANGLES, 6 * BATCH, gl.UNSIGNED_SHORT, 0, Math.ceil(count / BATCH));
    };
  }

  // ---- the viewer --------------------------------------------------------------------------------------------------
  async function start() {
    const gl = canvas.getContext("webgl2", { alpha: true, antialias: false, premultipliedAlpha: true });
    if (!gl) return unavailable("This browser has no WebGL2, so the scene is shown as a turntable.");
    if (!("DecompressionStream" in window)) return unavailable("This browser is too old for the 3D view.");
    const bytes = await unpackedBytes();
    const total = scene.objects.reduce((sum, object) => sum + object.n, 0);
    const table = new Float32Array(Math.ceil(total / PER_ROW) * PER_ROW * TEXELS * 4);
    const objectOf = new Uint16Array(total);
    const order = new Uint32Array(Math.ceil(total / ORDER_ROW) * ORDER_ROW);
    const work = { depth: new Float32Array(total), order, bins: new Uint32Array(65536) };
    decode(bytes, table, objectOf);

    const pivot = centre(table, total);
    const home = () => ({ R: IDENTITY.slice(), eye: [0, 0, 0], pivot: pivot.slice() });
    const visible = scene.objects.map(() => true);
    const near = NEAR * Math.max(Math.hypot(...pivot), 1e-6);
    let camera = home(), lit = -1, count = 0, stale = true, waiting = false, animation = null;
    let moving = 0, movingStride = 0; // a timer while the camera moves; 0 until the first move was timed
    let paint = createPainter(gl, table, work);

    function intrinsics() { // K for the canvas: the whole photo fits and stays centred
      const zoom = Math.min(canvas.width / photoWidth, canvas.height / photoHeight), [fx, fy, cx, cy] = scene.K;
      return [fx * zoom, fy * zoom, cx * zoom + (canvas.width - zoom * photoWidth) / 2,
        cy * zoom + (canvas.height - zoom * photoHeight) / 2];
    }
    function project(point) { // camera frame of the photo -> CSS pixels of the canvas, or null behind the eye
      const v = apply(camera.R, add(point, camera.eye, -1)), K = intrinsics();
      const ratio = canvas.width / canvas.clientWidth;
      return v[2] < near ? null : [(K[0] * v[0] / v[2] + K[2]) / ratio, (K[1] * v[1] / v[2] + K[3]) / ratio];
    }
    function draw() {
      waiting = false;
      const ratio = Math.min(window.devicePixelRatio || 1, 2);
      const width = Math.max(1, Math.round(canvas.clientWidth * ratio));
      const height = Math.max(1, Math.round(canvas.clientHeight * ratio));
      if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
      if (gl.isContextLost()) return;
      const sorted = stale, stride = moving ? movingStride || TRIAL_STRIDE : 1, began = performance.now();
      if (stale) count = sortByDepth(table, objectOf, visible, camera, stride, work);
      stale = false;
      paint(camera, intrinsics(), near, lit, stride, count, sorted);
      if (moving && !movingStride) { // time this frame: reading a pixel waits for it
        gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4));
        const full_ms = TRIAL_STRIDE * (performance.now() - began);
        movingStride = Math.max(1, Math.min(MAX_STRIDE, Math.round(full_ms / FRAME_MS)));
      }
    }
    /** The camera moved. Without a fast GPU some of the splats have to do until it rests. */
    function moved() {
      clearTimeout(moving);
      moving = setTimeout(() => { moving = 0; redraw(); }, REST_MS);
      redraw();
    }
    function redraw(resort = true) {
      stale ||= resort;
      if (!waiting) { waiting = true; requestAnimationFrame(draw); }
    }

    // Rotations carry eye and view rigidly around the pivot, so the photo's view never jumps when a drag begins.
    function orbit(from, yaw, pitch) {
      const right = row(from.R, 0), forward = row(from.R, 2), up = unit(scene.up);
      const tilt = Math.acos(Math.max(-1, Math.min(1, dot(forward, up)))); // angle from up, kept off both poles
      const allowed = Math.max(tilt - 3.0, Math.min(tilt - 0.14, pitch));
      const turn = multiply(rotation(up, yaw), rotation(right, allowed));
      return { ...from, R: multiply(from.R, transpose(turn)),
        eye: add(from.pivot, apply(turn, add(from.eye, from.pivot, -1))) };
    }
    function pan(dx, dy) { // CSS pixels
      const depth = Math.max(dot(row(camera.R, 2), add(camera.pivot, camera.eye, -1)), near);
      const step = depth * canvas.width / canvas.clientWidth / intrinsics()[0];
      const move = add(row(camera.R, 0).map((v) => -v * dx * step), row(camera.R, 1), -dy * step);
      camera = { ...camera, eye: add(camera.eye, move), pivot: add(camera.pivot, move) };
    }
    function zoom(factor) {
      const away = add(camera.eye, camera.pivot, -1), far = 8 * Math.hypot(...pivot);
      const limited = Math.max(2 * near, Math.min(far, Math.hypot(...away) * factor)) / (Math.hypot(...away) || 1);
      camera = { ...camera, eye: add(camera.pivot, away, limited) };
    }
    function animate(step) { // step(seconds) moves the camera and returns whether to go on
      const began = performance.now(), own = {};
      animation = own;
      requestAnimationFrame(function frame(now) {
        if (animation !== own) return;
        const more = step(Math.max(0, now - began) / 1000);
        moved();
        if (more) requestAnimationFrame(frame); else animation = null;
      });
    }
    function touched() { // the user moves the camera: whatever was running stops, and the photo no longer matches
      animation = null;
      setFade(0);
      root.querySelector("#swing").setAttribute("aria-pressed", "false");
    }
    function setFade(value) {
      fade.value = value;
      photoLayer.style.opacity = value;
    }
    function goHome(instantly) {
      touched();
      const from = camera, to = home(), turn = multiply(to.R, transpose(from.R));
      const angle = Math.acos(Math.max(-1, Math.min(1, (turn[0] + turn[4] + turn[8] - 1) / 2)));
      const axis = [turn[7] - turn[5], turn[2] - turn[6], turn[3] - turn[1]];
      const calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
      if (instantly || calm || angle > 3.1) { camera = to; return moved(); }
      animate((seconds) => {
        const t = Math.min(1, seconds / 0.5), k = t * t * (3 - 2 * t);
        camera = t < 1 ? { ...to, R: multiply(rotation(axis, k * angle), from.R),
          eye: add(from.eye, add(to.eye, from.eye, -1), k) } : to;
        return t < 1;
      });
    }

    listen({ redraw, moved, goHome, touched, setFade, visible,
      orbit: (yaw, pitch) => { camera = orbit(camera, yaw, pitch); }, pan, zoom,
      light: (number) => { lit = number; redraw(false); },
      swing: () => {
        const from = camera;
        animate((seconds) => { camera = orbit(from, 0.55 * Math.sin(0.9 * seconds), 0); return true; });
      },
    });
    canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    canvas.addEventListener("webglcontextrestored", () => { paint = createPainter(gl, table, work); redraw(); });
    new ResizeObserver(() => redraw(false)).observe(canvas);
    root.classList.add("ready");
    draw();
    window.splatViewer = { project, draw, get camera() { return camera; }, get drawn() { return count; } };
    root.dataset.state = "ready";
  }

  function centre(table, total) { // median of each coordinate: a few stray splats must not move the pivot
    const every = Math.max(1, Math.floor(total / 20000));
    return [0, 1, 2].map((k) => {
      const values = [];
      for (let s = 0; s < total; s += every) values.push(table[12 * s + k]);
      return values.sort((a, b) => a - b)[values.length >> 1];
    });
  }

  // ---- mouse, touch, keys, buttons ---------------------------------------------------------------------------------
  function listen(view) {
    const fingers = new Map(), SPEED = 0.006; // radians per CSS pixel
    let zoomByWheel = false;
    const spread = () => {
      const [a, b] = [...fingers.values()];
      return { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, gap: Math.hypot(a.x - b.x, a.y - b.y) || 1 };
    };
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
      zoomByWheel = true;
    });
    canvas.addEventListener("pointermove", (event) => {
      const last = fingers.get(event.pointerId);
      if (!last) return;
      const before = fingers.size === 2 ? spread() : null, dx = event.clientX - last.x, dy = event.clientY - last.y;
      fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
      view.touched();
      if (before) {
        const after = spread();
        view.pan(after.x - before.x, after.y - before.y);
        view.zoom(before.gap / after.gap);
      } else if (event.shiftKey || event.buttons & 6) view.pan(dx, dy);
      else view.orbit(dx * SPEED, -dy * SPEED);
      view.moved();
    });
    for (const kind of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(kind, (event) => fingers.delete(event.pointerId));
    }
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    // Scrolling past the picture must not get stuck in it: the wheel zooms only after a click, or with Ctrl.
    canvas.addEventListener("pointerleave", () => { zoomByWheel = false; });
    canvas.addEventListener("wheel", (event) => {
      if (!zoomByWheel && !event.ctrlKey) return;
      event.preventDefault();
      view.touched();
      view.zoom(Math.exp(Math.max(-60, Math.min(60, event.deltaY)) * 0.004));
      view.moved();
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => {
      const moves = {
        ArrowLeft: () => view.orbit(0.1, 0), ArrowRight: () => view.orbit(-0.1, 0),
        ArrowUp: () => view.orbit(0, 0.1), ArrowDown: () => view.orbit(0, -0.1),
        "+": () => view.zoom(0.9), "=": () => view.zoom(0.9), "-": () => view.zoom(1.1),
      };
      if (event.key === "Home" || event.key === "0") { event.preventDefault(); return view.goHome(false); }
      if (!moves[event.key]) return;
      event.preventDefault();
      view.touched();
      moves[event.key]();
      view.moved();
    });

    root.querySelector("#home").addEventListener("click", () => view.goHome(false));
    root.querySelector("#swing").addEventListener("click", (event) => {
      const on = event.currentTarget.getAttribute("aria-pressed") !== "true";
      view.touched();
      event.currentTarget.setAttribute("aria-pressed", String(on));
      if (on) view.swing();
    });
    const full = root.querySelector("#full");
    full.hidden = !document.fullscreenEnabled;
    full.addEventListener("click", () => {
      if (document.fullscreenElement) document.exitFullscreen(); else root.requestFullscreen();
    });
    fade.addEventListener("input", () => {
      const value = fade.value;
      view.goHome(true);
      view.setFade(value);
    });
    const boxes = [...root.querySelectorAll("input[data-object]")];
    const everything = root.querySelector("#everything");
    const sync = () => {
      boxes.forEach((box) => { view.visible[Number(box.dataset.object)] = box.checked; });
      everything.checked = boxes.every((box) => box.checked);
      everything.indeterminate = !everything.checked && boxes.some((box) => box.checked);
      view.redraw();
    };
    boxes.forEach((box) => {
      const label = box.closest("label"), number = Number(box.dataset.object);
      box.addEventListener("change", sync);
      label.addEventListener("pointerenter", () => view.light(number));
      label.addEventListener("pointerleave", () => view.light(-1));
    });
    everything.addEventListener("change", () => {
      boxes.forEach((box) => { box.checked = everything.checked; });
      sync();
    });
    sync(); // a reloaded page keeps its ticks
  }

  function unavailable(reason) {
    root.querySelector(".notice").textContent = reason;
    root.dataset.state = "unavailable";
  }

  start().catch((error) => unavailable(`The 3D view could not start: ${error.message}`));
})();
