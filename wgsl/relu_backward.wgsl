// dx = dy where y = max(x, 0) + OFFSET lies above OFFSET, else 0, over `count` quads: the result tells, so that x need not
// be kept. An invocation owns one quad. FLOPs: 1 a value. Bytes: 12 a value.
@group(0) @binding(0) var<storage, read> y: array<Quad>;
@group(0) @binding(1) var<storage, read> dy: array<Quad>;
@group(0) @binding(2) var<storage, read_write> dx: array<Quad>;
@group(0) @binding(3) var<storage, read> count: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * 64u + lane;
  if (i < count[0]) {
    dx[i] = select(Quad(), dy[i], y[i] > Quad(OFFSET));
  }
}
