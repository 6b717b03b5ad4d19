/** Blocks that the relocator has a rule of its own for; GNU syntax. Each does not fault from some state. */

/** Branches and calls. Those that leave the block go to breakpoints, where it shows that they did. */
export const CRAFTED: readonly string[] = [
  // Branches to instructions that move too, on and back.
  'test al, 1\nje 1f\ninc ecx\n1: lea rdx, [rdx+2]',
  'test al, 1\njmp 1f\nnop\n1: inc ecx',
  'and ecx, 7\ninc ecx\n1: lea rdx, [rdx+rcx]\nloop 1b',
  'movzx ecx, cl\n1: dec ecx\njns 1b\nnop',
  'and ecx, 1\njrcxz 1f\nnot rdx\n1: not rsi',
  'and ecx, 1\n.byte 0x67\njrcxz 1f\nnot rdx\n1: not rsi',
  'test al, 1\nje 1f\nret\n1: mov ebx, 5',
  'test al, 1\njne 1f\ncall [rip+1f]\n1:',
  // Over a lock prefix, as glibc does.
  'test al, 1\nje 1f\n.byte 0xf0\n1: inc qword ptr [rdi]',
  'test al, 1\nje 1f\n.byte 0xf0\n1: add qword ptr [rip+0x12b000], 0x1234567',
  'jp 1f\njs 2f\n1: not rax\n2: not rbx',
  // To the first, which is the place of the probe itself.
  '1: shr cl, 1\njne 1b\nnop',
  // Calls through what the push moves or writes near.
  'and esp, -16\nmov rax, rsp\ncall [esp+8]',
  'call [esp+0x80]',
  'call [rsp]',
  'call [rsp+8]',
  'call [rsp-0x10]',
  'call [rsp-0x80]',
  'call [r12+8]',
  'call fs:[8]',
  'call rbx',
  'call [rip+0x12affa]',
  'push rbx\ncall [rsp]',
  // As linkers write calls of __tls_get_addr; the second prefix is one of them or none.
  'data16 lea rdi, [rip+0x150000]\n.byte 0x66, 0x66, 0x48, 0xe8, 0, 1, 0, 0',
  'data16 lea rdi, [rip+0x150000]\n.byte 0x66, 0x48, 0xff, 0x15, 0, 0xb0, 0x12, 0',
  'addr32 call .+0x1000',
  'bnd call .+0x1000',
  'notrack call rbx',
  'call .+5',
  // A transaction that is given up.
  'xbegin 1f\nxabort 5\n1:',
  'xbegin .+0x100\nxabort 5',
  'lea rax, [rip-7]\nmov rbx, rax',
];
