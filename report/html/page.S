/* The built page as bytes of the program: no conversion, no compile time. */
        .section .rodata
        .global twinstorm_report_page_begin
        .global twinstorm_report_page_end
twinstorm_report_page_begin:
        .incbin TWINSTORM_PAGE_FILE
twinstorm_report_page_end:
        .byte 0
        .section .note.GNU-stack,"",%progbits
