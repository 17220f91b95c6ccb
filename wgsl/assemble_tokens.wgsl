// Tokens of one crop group, COUNT sequences of 1 + REGISTERS + PATCHES rows of D, written from row FIRST_ROW on:
// cls + position[0]; the registers, which have no position; and per patch the embedding (row FIRST_PATCH on), or the
// mask token where mask != 0 (MASKED), plus position[1 + patch].
// An invocation owns one element. FLOPs: 1 per element. Bytes: 12 per element.
@group(0) @binding(0) var<storage, read> patches: array<f32>;
@group(0) @binding(1) var<storage, read> position: array<f32>;
@group(0) @binding(2) var<storage, read> cls: array<f32>;
@group(0) @binding(3) var<storage, read> registers: array<f32>;
@group(0) @binding(4) var<storage, read> mask_token: array<f32>;
@group(0) @binding(5) var<storage, read> mask: array<u32>;
@group(0) @binding(6) var<storage, read_write> tokens: array<f32>;
const LENGTH: u32 = 1 + REGISTERS + PATCHES;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * 64u + lane;
  if (i >= COUNT * LENGTH * D) {
    return;
  }
  let d = i % D;
  let token = i / D % LENGTH;
  let sequence = i / (D * LENGTH);
  var value: f32;
  if (token == 0u) {
    value = cls[d] + position[d];
  } else if (token <= REGISTERS) {
    value = registers[(token - 1u) * D + d];
  } else {
    let p = token - 1u - REGISTERS;
    var masked = false;
    if (MASKED) {
      masked = mask[sequence * PATCHES + p] != 0u;
    }
    if (masked) {
      value = mask_token[d];
    } else {
      value = patches[(FIRST_PATCH + sequence * PATCHES + p) * D + d];
    }
    value += position[(1u + p) * D + d];
  }
  tokens[FIRST_ROW * D + i] = value;
}
