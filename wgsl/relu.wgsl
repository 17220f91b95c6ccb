// y = max(x, 0) + OFFSET over `count` quads. An invocation owns one quad.
// FLOPs: 2 a value. Bytes: 8 a value.
@group(0) @binding(0) var<storage, read> x: array<Quad>;
@group(0) @binding(1) var<storage, read_write> y: array<Quad>;
@group(0) @binding(2) var<storage, read> count: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * 64u + lane;
  if (i < count[0]) {
    y[i] = pack_quad(max(unpack_quad(x[i]), Quad()) + OFFSET);
  }
}
