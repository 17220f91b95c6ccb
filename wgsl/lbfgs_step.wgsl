// A step of L-BFGS (Nocedal 1980) for problems of 4 QUADS variables each, by a problem's control (action, pairs, newest, rate).
// ACCEPT takes the trial point over and keeps s, the change of the point, and y, that of the gradient; START takes it over
// alone; RESTART and RETRY keep the point. All but RETRY make the direction d anew from the last `pairs` pairs by the two-loop
// recursion. Then trial = point + rate d. trial, point: variables, and GRADIENT_AT quads on their gradients; s, y: [HISTORY,
// problems, variables]; state [problems, HISTORY + 4]: 1 / s.y of each pair (0: no curvature, plays no role), s.y / y.y of the
// newest, and the results d.g, |d|^2, |g|^2. A workgroup owns a problem, an invocation every WIDTH-th quad of all its vectors,
// so that no barrier is needed between them. parameters: problems, QUADS, GRADIENT_AT.
// FLOPs: (8 HISTORY + 16) a variable. Bytes: 16 HISTORY + 48 a variable.
// include lib/wide_rows.wgsl
@group(0) @binding(0) var<storage, read_write> trial: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> point: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> s: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> d: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> state: array<f32>;
@group(0) @binding(6) var<storage, read> control: array<vec4<u32>>;
@group(0) @binding(7) var<storage, read> parameters: array<u32>;

const RETRY = 0u;
const START = 1u;
const ACCEPT = 2u;
// Pairs whose angle is nearer to a right one say more about rounding than about curvature.
const LEAST_CURVATURE = 1e-7;

// Where the vectors of a pair begin.
fn pair_at(problem: u32, slot: u32) -> u32 {
  return (slot * parameters[0] + problem) * parameters[1];
}

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
  let problem = group.x;
  let quads = parameters[1];
  let variables = problem * quads;
  let gradient = parameters[2] + problem * quads;
  let kept = problem * (HISTORY + 4u);
  let action = control[problem].x;
  let pairs = control[problem].y;
  let newest = control[problem].z;
  let rate = bitcast<f32>(control[problem].w);

  if (action == ACCEPT) {
    let place = pair_at(problem, newest);
    var sy = 0.0;
    var yy = 0.0;
    var ss = 0.0;
    for (var i = index; i < quads; i += WIDTH) {
      let step = trial[variables + i] - point[variables + i];
      let change = trial[gradient + i] - point[gradient + i];
      s[place + i] = step;
      y[place + i] = change;
      sy += dot(step, change);
      yy += dot(change, change);
      ss += dot(step, step);
    }
    sy = wide_sum(index, sy);
    yy = wide_sum(index, yy);
    ss = wide_sum(index, ss);
    if (index == 0u) {
      if (sy > LEAST_CURVATURE * sqrt(ss) * sqrt(yy)) {
        state[kept + newest] = 1.0 / sy;
        state[kept + HISTORY] = sy / yy;
      } else {
        state[kept + newest] = 0.0;
      }
    }
  }
  if (action == START && index == 0u) {
    state[kept + HISTORY] = 1.0;
  }
  storageBarrier();

  var slope = 0.0;
  var length = 0.0;
  var steepness = 0.0;
  if (action != RETRY) {
    for (var i = index; i < quads; i += WIDTH) {
      if (action == START || action == ACCEPT) {
        point[variables + i] = trial[variables + i];
        point[gradient + i] = trial[gradient + i];
      }
      let g = point[gradient + i];
      d[variables + i] = g;
      steepness += dot(g, g);
    }
    // The recursion of q and r goes on in d. Each pass subtracts what the last one found and takes the next dot product.
    var shares: array<f32, HISTORY>;
    for (var j = 0u; j < HISTORY; j++) {
      shares[j] = 0.0;
    }
    for (var j = 0u; j < pairs; j++) {
      let slot = (newest + HISTORY - j) % HISTORY;
      let here = pair_at(problem, slot);
      let before = pair_at(problem, (slot + 1u) % HISTORY);
      var product = 0.0;
      for (var i = index; i < quads; i += WIDTH) {
        var q = d[variables + i];
        if (j > 0u) {
          q -= shares[j - 1u] * y[before + i];
          d[variables + i] = q;
        }
        product += dot(s[here + i], q);
      }
      shares[j] = state[kept + slot] * wide_sum(index, product);
    }
    let oldest = pair_at(problem, (newest + HISTORY - max(pairs, 1u) + 1u) % HISTORY);
    var scale = 1.0;
    if (pairs > 0u) {
      scale = state[kept + HISTORY];
    }
    for (var i = index; i < quads; i += WIDTH) {
      var q = d[variables + i];
      if (pairs > 0u) {
        q -= shares[pairs - 1u] * y[oldest + i];
      }
      d[variables + i] = scale * q;
    }
    var before = 0.0;
    for (var j = pairs; j > 0u; j--) {
      let slot = (newest + HISTORY - j + 1u) % HISTORY;
      let here = pair_at(problem, slot);
      let last = pair_at(problem, (slot + HISTORY - 1u) % HISTORY);
      var product = 0.0;
      for (var i = index; i < quads; i += WIDTH) {
        var r = d[variables + i];
        if (j < pairs) {
          r += before * s[last + i];
          d[variables + i] = r;
        }
        product += dot(y[here + i], r);
      }
      before = shares[j - 1u] - state[kept + slot] * wide_sum(index, product);
    }
    let last = pair_at(problem, newest);
    for (var i = index; i < quads; i += WIDTH) {
      var r = d[variables + i];
      if (pairs > 0u) {
        r += before * s[last + i];
      }
      d[variables + i] = -r;
      slope -= dot(r, point[gradient + i]);
      length += dot(r, r);
    }
    slope = wide_sum(index, slope);
    length = wide_sum(index, length);
    steepness = wide_sum(index, steepness);
    if (index == 0u) {
      state[kept + HISTORY + 1u] = slope;
      state[kept + HISTORY + 2u] = length;
      state[kept + HISTORY + 3u] = steepness;
    }
  }
  for (var i = index; i < quads; i += WIDTH) {
    trial[variables + i] = point[variables + i] + rate * d[variables + i];
  }
}
