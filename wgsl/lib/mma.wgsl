diagnostic(off, chromium.subgroup_matrix_uniformity);
diagnostic(off, subgroup_uniformity);
enable f16;
enable subgroups;
enable chromium_experimental_subgroup_matrix;
// Products of small matrices by whole subgroups: every call of WGSL's experimental subgroup matrices is in this file.
// A left matrix is MMA_M x MMA_K halves, a right one MMA_K x MMA_N halves, a result MMA_M x MMA_N floats; the three sizes are
// constants of the prelude, as kernels/mma.ts takes them from the adapter. All invocations of a subgroup call together.
// Matrices come from and go to workgroup memory: blocks of MMA_BLOCK vectors (the kernel's constant), each vector 8 halves or
// 4 floats. `offset` and `stride` (from one stored row to the next) count vectors. Where both are constants and each
// subgroup has blocks of its own (`&blocks[i]`), compilers see that nothing lies outside and test no bounds.
alias MmaBlock = array<vec4<u32>, MMA_BLOCK>;
alias MmaLeft = subgroup_matrix_left<f16, MMA_K, MMA_M>;
alias MmaRight = subgroup_matrix_right<f16, MMA_N, MMA_K>;
alias MmaResult = subgroup_matrix_result<f32, MMA_N, MMA_M>;

// Stored [MMA_M][MMA_K]: a row has neighbouring k.
fn mma_left_by_rows(block: ptr<workgroup, MmaBlock>, offset: u32, stride: u32) -> MmaLeft {
  return subgroupMatrixLoad<MmaLeft, row_major>(block, offset, stride);
}

// Stored [MMA_K][MMA_M]: a row has neighbouring m.
fn mma_left_by_columns(block: ptr<workgroup, MmaBlock>, offset: u32, stride: u32) -> MmaLeft {
  return subgroupMatrixLoad<MmaLeft, col_major>(block, offset, stride);
}

// Stored [MMA_K][MMA_N]: a row has neighbouring n.
fn mma_right_by_rows(block: ptr<workgroup, MmaBlock>, offset: u32, stride: u32) -> MmaRight {
  return subgroupMatrixLoad<MmaRight, row_major>(block, offset, stride);
}

// Stored [MMA_N][MMA_K]: a row has neighbouring k.
fn mma_right_by_columns(block: ptr<workgroup, MmaBlock>, offset: u32, stride: u32) -> MmaRight {
  return subgroupMatrixLoad<MmaRight, col_major>(block, offset, stride);
}

// Inside a loop, `var sum = mma_zero();`: Dawn clears a variable without initialiser only once.
fn mma_zero() -> MmaResult {
  return MmaResult();
}

fn mma_add_product(sum: MmaResult, left: MmaLeft, right: MmaRight) -> MmaResult {
  return subgroupMatrixMultiplyAccumulate(left, right, sum);
}

// As floats [MMA_M][MMA_N], to be read with bitcast<vec4<f32>>.
fn mma_store(block: ptr<workgroup, MmaBlock>, offset: u32, result: MmaResult, stride: u32) {
  subgroupMatrixStore<row_major>(block, offset, result, stride);
}

fn mma_load(block: ptr<workgroup, MmaBlock>, offset: u32, stride: u32) -> MmaResult {
  return subgroupMatrixLoad<MmaResult, row_major>(block, offset, stride);
}
