// The gradient of the cross-entropy with labels in the logits, stored as they are.
const GRADIENT = true;
@group(0) @binding(4) var<storage, read> upstream: array<f32>;
@group(0) @binding(5) var<storage, read_write> dlogits: array<Quad>;

fn upstream_of(row: u32) -> f32 {
  return upstream[row];
}

fn store_gradient(at: u32, value: vec4<f32>) {
  dlogits[at] = pack_quad(value);
}
