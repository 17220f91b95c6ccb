// Sinkhorn-Knopp, over samples, second stage: center[k] = tau log sum over parts of s exp(m), from partial[part][k] =
// (m, s). The center is the logit of an average sample, so that a target is softmax((z - center) / tau).
// An invocation owns one of K prototypes. FLOPs: 5 PARTS K. Bytes: 4 (2 PARTS K + K).
@group(0) @binding(0) var<storage, read> partial: array<vec2<f32>>;
@group(0) @binding(1) var<storage, read> temperature: array<f32>;
@group(0) @binding(2) var<storage, read_write> center: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let k = id.x;
  if (k >= K) {
    return;
  }
  var largest = 0.0;
  var sum = 0.0;
  for (var part = 0u; part < PARTS; part++) {
    let p = partial[part * K + k];
    // A part beyond the used rows holds no sample.
    if (p.y > 0.0) {
      let larger = select(p.x, max(largest, p.x), sum > 0.0);
      sum = sum * exp(min(largest - larger, 0.0)) + p.y * exp(p.x - larger);
      largest = larger;
    }
  }
  var result = 0.0;
  if (sum > 0.0) {
    result = temperature[0] * (largest + log(sum));
  }
  center[k] = result;
}
