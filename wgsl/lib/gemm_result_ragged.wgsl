// A gemm's epilogue operands and result for any N, in float32: the last quad of a row may be short.
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read> extra: array<f32>;
@group(0) @binding(4) var<storage, read> gamma: array<f32>;
@group(0) @binding(5) var<storage, read_write> out: array<f32>;

// Columns of the quad at n that exist. Loops to it have lengths that only the GPU knows, so no compiler unrolls them.
fn columns_at(n: u32) -> u32 {
  return min(4u, sizes.N - n);
}

fn bias_quad(n: u32) -> vec4<f32> {
  var quad = vec4<f32>();
  for (var j = 0u; j < columns_at(n); j++) {
    quad[j] = bias[n + j];
  }
  return quad;
}

fn gamma_quad(n: u32) -> vec4<f32> {
  var quad = vec4<f32>();
  for (var j = 0u; j < columns_at(n); j++) {
    quad[j] = gamma[n + j];
  }
  return quad;
}

fn extra_quad(at: u32, n: u32) -> vec4<f32> {
  var quad = vec4<f32>();
  for (var j = 0u; j < columns_at(n); j++) {
    quad[j] = extra[at + j];
  }
  return quad;
}

fn out_quad(at: u32, n: u32) -> vec4<f32> {
  var quad = vec4<f32>();
  for (var j = 0u; j < columns_at(n); j++) {
    quad[j] = out[at + j];
  }
  return quad;
}

fn store_quad(at: u32, n: u32, value: vec4<f32>) {
  for (var j = 0u; j < columns_at(n); j++) {
    out[at + j] = value[j];
  }
}
