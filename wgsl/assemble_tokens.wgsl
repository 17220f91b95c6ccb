// Tokens of one crop group, COUNT sequences of 1 + REGISTERS + PATCHES rows of QUADS quads, written from row FIRST_ROW on:
// cls + position[0]; the registers, which have no position; and per patch the embedding (row FIRST_PATCH on), or the
// mask token where mask != 0 (MASKED), plus position[1 + patch]. What is not of the group's patches is float32.
// An invocation owns one quad. FLOPs: 4 per quad. Bytes: those of the embeddings, the tokens and one sequence in float32.
@group(0) @binding(0) var<storage, read> patches: array<Quad>;
@group(0) @binding(1) var<storage, read> position: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> cls: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> registers: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> mask_token: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> mask: array<u32>;
@group(0) @binding(6) var<storage, read_write> tokens: array<Quad>;
const LENGTH: u32 = 1 + REGISTERS + PATCHES;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * 64u + lane;
  if (i >= COUNT * LENGTH * QUADS) {
    return;
  }
  let q = i % QUADS;
  let token = i / QUADS % LENGTH;
  let sequence = i / (QUADS * LENGTH);
  var values: vec4<f32>;
  if (token == 0u) {
    values = cls[q] + position[q];
  } else if (token <= REGISTERS) {
    values = registers[(token - 1u) * QUADS + q];
  } else {
    let p = token - 1u - REGISTERS;
    var masked = false;
    if (MASKED) {
      masked = mask[sequence * PATCHES + p] != 0u;
    }
    if (masked) {
      values = mask_token[q];
    } else {
      values = unpack_quad(patches[(FIRST_PATCH + sequence * PATCHES + p) * QUADS + q]);
    }
    values += position[(1u + p) * QUADS + q];
  }
  tokens[FIRST_ROW * QUADS + i] = pack_quad(values);
}
