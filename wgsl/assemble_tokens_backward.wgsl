// Gradient of the patch embeddings of one crop group: dpatch = dtoken, or 0 where the mask token stood (MASKED).
// Writes rows FIRST_PATCH on of dpatches. An invocation owns one quad. FLOPs: 0. Bytes: twice those of the embeddings.
@group(0) @binding(0) var<storage, read> dtokens: array<Quad>;
@group(0) @binding(1) var<storage, read> mask: array<u32>;
@group(0) @binding(2) var<storage, read_write> dpatches: array<Quad>;
const LENGTH: u32 = 1 + REGISTERS + PATCHES;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * 64u + lane;
  if (i >= COUNT * PATCHES * QUADS) {
    return;
  }
  let q = i % QUADS;
  let row = i / QUADS;
  let sequence = row / PATCHES;
  let p = row % PATCHES;
  var values = dtokens[(FIRST_ROW + sequence * LENGTH + 1u + REGISTERS + p) * QUADS + q];
  if (MASKED) {
    values = select(values, pack_quad(vec4<f32>(0.0)), mask[row] != 0u);
  }
  dpatches[FIRST_PATCH * QUADS + i] = values;
}
