/*
 * Functions of target.c that each can be probed by one method only. All do the same work, as near as that goes; a branch
 * that is never taken, since no first argument is negative, leads behind the first instruction where a jump must not lie.
 */
        .text

        .macro begin name
        .globl \name
        .type \name, @function
\name:
        .endm

        .macro end name
        .size \name, . - \name
        .endm

        /* So many instructions of five bytes and a return: no padding is near what stands beside it. */
        .macro wall name
        begin \name
        .rept 38
        mov $1, %eax
        .endr
        nop
        ret
        end \name
        .endm

        .p2align 6
begin method_nop
        .byte 0x0f, 0x1f, 0x44, 0, 0 /* nopl 0(%rax, %rax, 1) */
        lea (%rdi, %rdi, 2), %rax
        xor %rsi, %rax
        ret
end method_nop

        .p2align 6
begin method_jump
        mov $1, %eax
        lea (%rdi, %rdi, 2), %rax
        xor %rsi, %rax
        ret
end method_jump

        .p2align 6
begin method_jump_several
        mov %edi, %eax
        lea (%rdi, %rdi, 2), %rax
        xor %rsi, %rax
        ret
end method_jump_several

        .p2align 6
begin method_short_jump
        mov %edi, %eax
1:      lea (%rdi, %rdi, 2), %rax
        xor %rsi, %rax
        test %rdi, %rdi
        js 1b
        ret
end method_short_jump

        .p2align 6
wall wall_before_pun
        /* The byte behind the first instruction is the highest of the distance: 816 MB, which a stub may be away. */
begin method_pun
        lea (%rdi, %rdi, 2), %rax
1:      .byte 0x33, 0xc6 /* xor %esi, %eax */
        test %rdi, %rdi
        js 1b
        ret
end method_pun
wall wall_behind_pun

        .p2align 6
wall wall_before_springboard
        /* Here 1.2 GB, which is more; and so would be any of the next three bytes, behind prefixes. */
begin method_springboard
        lea (%rdi, %rdi, 2), %rax
1:      lea 0x48(%rax), %rax /* 48 8d 40 48 */
        test %rdi, %rdi
        js 1b
        ret
end method_springboard
wall wall_behind_springboard

        .section .note.GNU-stack, "", @progbits
