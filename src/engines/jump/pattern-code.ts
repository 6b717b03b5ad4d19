/** Machine code that holds text against a pattern. */

import type { BytePattern, ByteSet } from '../../probe/pattern.ts';
import { mem, type Label } from '../../x64/operands.ts';
import type { EmitContext } from './emit-context.ts';

/** Falls through if rdi bytes at r11 fit, else goes to `fails`. The same steps as `matchesPattern`. */
export function emitPattern(context: EmitContext, pattern: BytePattern, fails: Label): void {
  const { code } = context;
  const [first = [], ...others] = pattern;
  const last = others.pop();
  code.cmp('rdi', first.length).jcc(last === undefined ? 'ne' : 'b', fails, 'near');
  emitStretch(context, first, fails);
  if (last === undefined) return;
  for (const stretch of [first, ...others]) {
    if (stretch !== first) {
      const again = code.label('again');
      const next = code.label('next');
      const found = code.label('found');
      code.bind(again).cmp('rdi', stretch.length).jcc('b', fails, 'near');
      emitStretch(context, stretch, next);
      code.jmp(found, 'near');
      code.bind(next).inc('r11').dec('rdi').jmp(again, 'near');
      code.bind(found);
    }
    code.add('r11', stretch.length).sub('rdi', stretch.length);
  }
  code.cmp('rdi', last.length).jcc('b', fails, 'near');
  code.lea('r11', mem({ base: 'r11', index: 'rdi', displacement: -last.length }));
  emitStretch(context, last, fails);
}

/** Falls through if the bytes at r11 are in a stretch's sets, one by one. Clobbers rax. */
function emitStretch(context: EmitContext, stretch: readonly ByteSet[], fails: Label): void {
  stretch.forEach((set, index) => emitByte(context, set, index, fails));
}

function emitByte({ code }: EmitContext, set: ByteSet, index: number, fails: Label): void {
  const [only] = set;
  if (set.length === 1 && only !== undefined && only[0] === 0 && only[1] === 255) return;
  const at = mem({ base: 'r11', displacement: index, width: 1 });
  if (set.length === 1 && only !== undefined && only[0] === only[1]) {
    code.cmp(at, only[0]).jcc('ne', fails, 'near');
    return;
  }
  const inside = code.label('inside');
  code.movzx('eax', at);
  for (const [low, high] of set) {
    // One comparison a range: what is below it wraps around.
    code.lea('rdx', mem({ base: 'rax', displacement: -low }));
    code.cmp('edx', high - low).jcc('be', inside, 'near');
  }
  code.jmp(fails, 'near').bind(inside);
}
