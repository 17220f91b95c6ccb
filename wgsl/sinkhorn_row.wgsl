// Sinkhorn-Knopp, over prototypes: row_shift[i] = -log-sum-exp over k of (z[i][k] - center[k]) / tau, for a tile of ROWS
// rows of K logits; 0 beyond the used ones.
// A workgroup owns one row and reads it once. FLOPs: 5 ROWS K. Bytes: 4 (ROWS K + K + ROWS).
// include lib/wide_rows.wgsl
@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read> temperature: array<f32>;
@group(0) @binding(2) var<storage, read> count: array<u32>;
@group(0) @binding(3) var<storage, read> center: array<f32>;
@group(0) @binding(4) var<storage, read_write> row_shift: array<f32>;
// include lib/used_rows.wgsl

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) index: u32) {
  let row = group.y * groups.x + group.x;
  if (row >= tile.rows) {
    return;
  }
  if (row >= used_rows()) {
    if (index == 0u) {
      row_shift[row] = 0.0;
    }
    return;
  }
  let base = row * K;
  let scale = 1.0 / temperature[0];
  let own = min(index, K - 1u);
  var largest = (logits[base + own] - center[own]) * scale;
  var sum = 0.0;
  for (var first = index; first < K; first += 4u * WIDTH) {
    let columns = four_columns(first);
    let inside = columns < vec4<u32>(K);
    let at = min(columns, vec4<u32>(K - 1u));
    let s = base + at;
    let z = vec4<f32>(logits[s.x], logits[s.y], logits[s.z], logits[s.w]);
    let x = (z - vec4<f32>(center[at.x], center[at.y], center[at.z], center[at.w])) * scale;
    let larger = max(largest, max_of_four(x));
    sum = sum * exp(largest - larger) + sum_of_four(exp(x - larger), inside);
    largest = larger;
  }
  let row_largest = wide_max(index, largest);
  sum = wide_sum(index, sum * exp(largest - row_largest));
  if (index == 0u) {
    row_shift[row] = -(row_largest + log(sum));
  }
}
