// dx of pool_tokens over COUNT sequences of LENGTH tokens: the CLS token gets the first half of dout[s], each of the TOKENS
// patch tokens the second half divided by TOKENS, registers between them nothing. D = 4 QUADS. An invocation owns one quad.
// FLOPs: COUNT TOKENS D. Bytes: (LENGTH + 2) COUNT D times an element's.
@group(0) @binding(0) var<storage, read> dout: array<Quad>;
@group(0) @binding(1) var<storage, read_write> dx: array<Quad>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * 64u + lane;
  if (i >= COUNT * LENGTH * QUADS) {
    return;
  }
  let c = i % QUADS;
  let token = i / QUADS % LENGTH;
  let pooled = i / QUADS / LENGTH * 2u * QUADS + c;
  if (token == 0u) {
    dx[i] = dout[pooled];
  } else if (token < FIRST) {
    dx[i] = pack_quad(vec4<f32>(0.0));
  } else {
    dx[i] = pack_quad(unpack_quad(dout[pooled + QUADS]) / f32(TOKENS));
  }
}
