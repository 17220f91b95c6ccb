// The pre-activation of a GELU goes to memory beside the result, laid out alike.
@group(0) @binding(6) var<storage, read_write> kept: array<Result>;

fn keep(at: u32, n: u32, value: vec4<f32>) {
  kept[at / 4u] = pack_result(value);
}
