// The cross-entropy's gradient in the logits, stored as Result.
const GRADIENT = true;
@group(0) @binding(4) var<storage, read> upstream: array<f32>;
@group(0) @binding(5) var<storage, read_write> dlogits: array<Result>;

fn upstream_of(term: u32) -> f32 {
  return upstream[term];
}

fn store_gradient(at: u32, value: vec4<f32>) {
  dlogits[at] = pack_result(value);
}
