// After the gradients of many problems' data terms came in (sums, 4 QUADS variables a problem): adds that of the penalty,
// strength[p] / 2 |w|^2 over the first PENALISED columns of each row of 4 ROW_QUADS variables, and stores both in trial
// (variables, and GRADIENT_AT quads on their gradients). results [problems, 4]: |w|^2 over the penalised, gradient . d,
// |gradient|^2, |d|^2. A workgroup owns a problem, an invocation every WIDTH-th quad.
// parameters: QUADS, GRADIENT_AT, ROW_QUADS, PENALISED. FLOPs: 12 a variable. Bytes: 16 a variable.
// include lib/wide_rows.wgsl
@group(0) @binding(0) var<storage, read> sums: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> d: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> strength: array<f32>;
@group(0) @binding(3) var<storage, read_write> trial: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> results: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> parameters: array<u32>;

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
  let problem = group.x;
  let quads = parameters[0];
  let variables = problem * quads;
  let gradient = parameters[1] + problem * quads;
  var products = vec4<f32>();
  for (var i = index; i < quads; i += WIDTH) {
    let columns = 4u * (i % parameters[2]) + vec4<u32>(0u, 1u, 2u, 3u);
    let w = select(vec4<f32>(), trial[variables + i], columns < vec4<u32>(parameters[3]));
    let g = sums[variables + i] + strength[problem] * w;
    trial[gradient + i] = g;
    let direction = d[variables + i];
    products += vec4<f32>(dot(w, w), dot(g, direction), dot(g, g), dot(direction, direction));
  }
  let result = vec4<f32>(
    wide_sum(index, products.x), wide_sum(index, products.y), wide_sum(index, products.z), wide_sum(index, products.w));
  if (index == 0u) {
    results[problem] = result;
  }
}
