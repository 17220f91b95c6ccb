// y = gelu(u) over COUNT quads: recomputes in the backward pass what a gemm's epilogue did not keep.
// A workgroup owns 256 quads, an invocation one. FLOPs: 80 COUNT. Bytes: 8 COUNT times an element's.
// include lib/erf.wgsl
@group(0) @binding(0) var<storage, read> u: array<Quad>;
@group(0) @binding(1) var<storage, read_write> y: array<Quad>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * 256u + lane;
  if (i < COUNT) {
    y[i] = pack_quad(gelu(unpack_quad(u[i])));
  }
}
