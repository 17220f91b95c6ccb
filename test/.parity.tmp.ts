import { parity } from '../src/cli/parity.js';
process.exitCode = await parity(process.argv[2], { maxParams: process.argv[3] });
