// sum += value over COUNT quads. A workgroup owns 256 of them, an invocation one.
// FLOPs: 4 COUNT. Bytes: 12 COUNT times an element's.
@group(0) @binding(0) var<storage, read_write> sum: array<Quad>;
@group(0) @binding(1) var<storage, read> value: array<Quad>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * 256u + lane;
  if (i < COUNT) {
    sum[i] = pack_quad(unpack_quad(sum[i]) + unpack_quad(value[i]));
  }
}
