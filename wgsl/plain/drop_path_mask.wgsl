// The mask of stochastic depth (specification 1.6): of each branch and sequence 0, or b/s where it is one of the s of b
// sequences that are kept, those with a rank below s. limits: (s, b) of each element. An invocation owns one of COUNT.
// FLOPs: COUNT. Bytes: 16 COUNT.
@group(0) @binding(0) var<storage, read> ranks: array<u32>;
@group(0) @binding(1) var<storage, read> limits: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read_write> mask: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * 256u + lane;
  if (i < COUNT) {
    let limit = limits[i];
    mask[i] = select(0.0, f32(limit.y) / f32(max(limit.x, 1u)), ranks[i] < limit.x);
  }
}
