// A gemm's epilogue operands and result where N is a multiple of 4: whole quads, stored as Result (float32 or halves).
@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> extra: array<Result>;
@group(0) @binding(4) var<storage, read> gamma: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> out: array<Result>;

fn bias_quad(n: u32) -> vec4<f32> {
  return bias[n / 4u];
}

fn gamma_quad(n: u32) -> vec4<f32> {
  return gamma[n / 4u];
}

fn extra_quad(at: u32, n: u32) -> vec4<f32> {
  return unpack_result(extra[at / 4u]);
}

fn out_quad(at: u32, n: u32) -> vec4<f32> {
  return unpack_result(out[at / 4u]);
}

fn store_quad(at: u32, n: u32, value: vec4<f32>) {
  out[at / 4u] = pack_result(value);
}
