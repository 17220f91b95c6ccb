// p[i] = softmax((z[i] - center) / tau) for a tile of ROWS rows of K logits; rows beyond the used ones get zeros. Teacher
// targets by centering, and the last step of Sinkhorn-Knopp, whose column pass gives the center.
// A workgroup owns one row and reads it twice. FLOPs: 9 ROWS K. Bytes: 4 (2 ROWS K + K).
// include lib/wide_rows.wgsl
@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read> temperature: array<f32>;
@group(0) @binding(2) var<storage, read> count: array<u32>;
@group(0) @binding(3) var<storage, read> center: array<f32>;
@group(0) @binding(4) var<storage, read_write> targets: array<f32>;
// include lib/used_rows.wgsl

@compute @workgroup_size(WIDTH)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) index: u32) {
  let row = group.y * groups.x + group.x;
  if (row >= tile.rows) {
    return;
  }
  let base = row * K;
  if (row >= used_rows()) {
    for (var k = index; k < K; k += WIDTH) {
      targets[base + k] = 0.0;
    }
    return;
  }
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
  let total = wide_sum(index, sum * exp(largest - row_largest));
  for (var k = index; k < K; k += WIDTH) {
    targets[base + k] = exp((logits[base + k] - center[k]) * scale - row_largest) / total;
  }
}
