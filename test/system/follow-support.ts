/** Programs whose processes are followed: what the tests of following share. */

import assert from 'node:assert/strict';
import { dirname } from 'node:path';

import { compileFixture } from '../harness/fixtures.ts';
import { countOf, main, runPlain, type Ran, type RunOptions } from './real-support.ts';

/** The event of {@link followedProgram}'s calls. */
export const EVENT = 'probe_libfollowed_hit:followed_hit';

/** A program that makes processes in every way: test/fixtures/followed.c says what it does. */
export function followedProgram(): {
  readonly program: string;
  readonly library: string;
  readonly probe: string;
} {
  const library = compileFixture({
    sources: ['followed-hit.c'],
    flags: ['-O2', '-g', '-shared', '-fPIC', '-Wl,-soname,libfollowed-hit.so'],
    name: 'libfollowed-hit.so',
  });
  const program = compileFixture({
    sources: ['followed.c'],
    libraries: [library, `-Wl,-rpath,${dirname(library)}`],
  });
  // By its path: what is executed first does not map it.
  return { program, library, probe: `followed_hit@${library}` };
}

/** The same in one piece. */
export function followedAlone(flag: string): string {
  return compileFixture({
    sources: ['followed.c', 'followed-hit.c'],
    flags: ['-O2', '-g', '-pthread', flag],
    name: 'followed-alone',
  });
}

/** Small rings for many tasks. */
const SHAPE = ['--ring-size', '256K', '--ring-budget', '512M'];

/** Counts hits of a command and of all that it makes. */
export function countFollowed(
  probe: string,
  command: readonly string[],
  { words = [], ...options }: RunOptions & { readonly words?: readonly string[] } = {},
): Ran {
  const args = [main, 'trace', '--count', ...SHAPE, ...words, probe, '--', ...command];
  return runPlain(process.execPath, args, options);
}

/** The command has ended well, has said how many calls there were, and each was counted. */
export function assertCounted(ran: Ran, event: string = EVENT): void {
  assert.equal(ran.status, 0, ran.err);
  const said = /^ok (\d+)$/m.exec(ran.out)?.[1];
  assert.ok(said !== undefined, ran.out + ran.err);
  assert.equal(countOf(ran, event), Number(said), ran.err);
}
