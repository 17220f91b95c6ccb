// Gradient of the patch embeddings of one crop group: dpatch = dtoken, or 0 where the mask token stood (MASKED).
// Writes rows FIRST_PATCH on of dpatches. An invocation owns one element. FLOPs: 0. Bytes: 8 per element.
@group(0) @binding(0) var<storage, read> dtokens: array<f32>;
@group(0) @binding(1) var<storage, read> mask: array<u32>;
@group(0) @binding(2) var<storage, read_write> dpatches: array<f32>;
const LENGTH: u32 = 1 + REGISTERS + PATCHES;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * 64u + lane;
  if (i >= COUNT * PATCHES * D) {
    return;
  }
  let d = i % D;
  let row = i / D;
  let sequence = row / PATCHES;
  let p = row % PATCHES;
  var value = dtokens[(FIRST_ROW + sequence * LENGTH + 1u + REGISTERS + p) * D + d];
  if (MASKED) {
    value = select(value, 0.0, mask[row] != 0u);
  }
  dpatches[FIRST_PATCH * D + i] = value;
}
