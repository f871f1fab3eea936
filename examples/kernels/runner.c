/* The process that runs kernels, inside the jail. It is ours; each kernel runs in a child of it.

   A child maps the inputs for reading only and the outputs for writing, loads the kernel, gives up every system call but
   three, and only then is told to call it. Where it is timed there are two: reading its orders, and ending. That it has
   ended is then the one sign that it is done, so nothing can be computed after the clock has stopped. The clock is read
   here, in a process whose memory no kernel can reach.

   To take a process's memory apart takes a millisecond, which would be measured, too. So the process that is timed shares
   its memory with one that prepared it and then stopped: only we can make that go on, and we end it instead.

   Arguments: the file that kernels are put into, the descriptors of commands, replies, inputs and outputs, and the bytes
   of inputs, of outputs and of one checked buffer. `runner.py` has the other end, and the layout of the buffers. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, STACK_BYTES = 256 << 10, CPU_SECONDS = 2, MEMORY_BYTES = 512 << 20, LIBRARY_BYTES = 4 << 20 };
enum { LOAD = 1, TIME = 2, OPEN = 3, CALL = 4, CLOSE = 5 };
enum { FINISHED = 0, DIED = 1 };

struct command { uint32_t what, number; };
struct reply { int32_t what, status; int64_t nanoseconds; };
struct range { uint32_t first, count; };
/* One call of the kernel; the plan, in the first page of the inputs, is a list of them. */
struct call { int32_t signature, rows, n, unused; uint64_t first, second, out; };

typedef void unary(const float *, float *, int);
typedef void binary(const float *, const float *, float *, int);
typedef void rows_of_one(const float *, float *, int, int);
typedef void rows_of_two(const float *, const float *, float *, int, int);

static const char *library;
static int commands, replies, inputs, outputs;
static size_t input_bytes, output_bytes, slot_bytes;

static void read_all(int fd, void *into, size_t size) {
    for (char *at = into; size > 0;) {
        ssize_t got = read(fd, at, size);
        if (got <= 0) _exit(0); /* the bench is gone */
        at += got, size -= (size_t)got;
    }
}

static void reply(int what, int status, int64_t nanoseconds) {
    struct reply told = {what, status, nanoseconds};
    if (write(replies, &told, sizeof told) != sizeof told) _exit(1);
}

static void limit(int what, rlim_t value) {
    struct rlimit both = {value, value};
    if (setrlimit(what, &both) != 0) _exit(2);
}

static void need(int is_fine, const char *what) {
    if (is_fine) return;
    (void)!write(2, what, strlen(what));
    _exit(3);
}

/* Reading orders, ending, and, where it is not timed, saying that a call is over. All else ends the child. */
static void give_up_system_calls(int go, int done, int is_timed) {
#if defined(__x86_64__)
    const uint32_t architecture = AUDIT_ARCH_X86_64;
#else
    const uint32_t architecture = AUDIT_ARCH_AARCH64;
#endif
    struct sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, architecture, 0, 9),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 6, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_read, 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, is_timed ? 0xffffffff : SYS_write, 0, 5),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)done, 2, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)go, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    struct sock_fprog program = {sizeof rules / sizeof *rules, rules};
    need(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "no_new_privs\n");
    need(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0, "seccomp\n");
}

static char *mapped(int fd, size_t size, int protection) {
    char *at = mmap(NULL, size, protection, MAP_SHARED | MAP_POPULATE, fd, 0);
    need(at != MAP_FAILED, "mmap\n");
    return at;
}

static void no_access(char *page) { need(mprotect(page, PAGE, PROT_NONE) == 0, "mprotect\n"); }

static void call_kernel(void *kernel, const struct call *call, char *from, char *to) {
    const float *first = (const float *)(from + call->first), *second = (const float *)(from + call->second);
    float *out = (float *)(to + call->out);
    switch (call->signature) {
        case 0: ((unary *)kernel)(first, out, call->n); break;
        case 1: ((binary *)kernel)(first, second, out, call->n); break;
        case 2: ((rows_of_one *)kernel)(first, out, call->rows, call->n); break;
        default: ((rows_of_two *)kernel)(first, second, out, call->rows, call->n); break;
    }
}

struct child { void *kernel; char *from, *to; int go, done, is_timed; };

static _Noreturn void end(void) {
    syscall(SYS_exit_group, 0);
    __builtin_unreachable();
}

/* Caches and page tables as they are in a program that has just made its inputs. */
static void warm(const char *from, const char *to) {
    size_t first_input = 4 * PAGE + 2 * slot_bytes, first_output = 2 * PAGE + slot_bytes;
    for (size_t at = first_input; at < input_bytes; at += 64) (void)*(const volatile char *)(from + at);
    for (size_t at = first_output; at < output_bytes; at += 64) (void)*(const volatile char *)(to + at);
}

/* The only place where code runs that is not ours. */
static int run(void *argument) {
    struct child child = *(struct child *)argument;
    limit(RLIMIT_CPU, CPU_SECONDS), limit(RLIMIT_FSIZE, 0), limit(RLIMIT_NPROC, 0);
#if defined(__x86_64__)
    need(prctl(PR_SET_TSC, PR_TSC_SIGSEGV) == 0, "tsc\n"); /* no clock to be read */
#endif
    if (child.is_timed) warm(child.from, child.to);
    if (write(child.done, "r", 1) != 1) end();
    give_up_system_calls(child.go, child.done, child.is_timed);
    for (struct range range; read(child.go, &range, sizeof range) == sizeof range;) {
        const struct call *plan = (const struct call *)child.from + range.first;
        for (uint32_t i = 0; i < range.count; i++) call_kernel(child.kernel, plan + i, child.from, child.to);
        if (child.is_timed) break;
        if (write(child.done, "d", 1) != 1) break;
    }
    end();
}

static _Noreturn void prepare_and_run(int go, int done, int is_timed) {
    static char stack[STACK_BYTES] __attribute__((aligned(64)));
    char *from = mapped(inputs, input_bytes, PROT_READ), *to = mapped(outputs, output_bytes, PROT_READ | PROT_WRITE);
    no_access(from + PAGE), no_access(from + 2 * PAGE + slot_bytes), no_access(from + 3 * PAGE + 2 * slot_bytes);
    no_access(to), no_access(to + PAGE + slot_bytes);
    void *loaded = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    struct child child = {loaded ? dlsym(loaded, "f") : NULL, from, to, go, done, is_timed};
    need(child.kernel != NULL, "dlopen\n");
    close(commands), close(replies), close(inputs), close(outputs);
    if (is_timed) {
        memset(stack, 0, sizeof stack); /* no first touch while the clock runs */
        need(clone(run, stack + sizeof stack, CLONE_VM | CLONE_PARENT | SIGCHLD, &child) > 0, "clone\n");
        for (;;) raise(SIGSTOP);
    }
    run(&child);
    end();
}

/* A child that has loaded the kernel; `go` and `done` are our ends of its pipes. */
static pid_t start(int is_timed, int *go, int *done) {
    int orders[2], signs[2];
    need(pipe(orders) == 0 && pipe(signs) == 0, "pipe\n");
    pid_t child = fork();
    need(child >= 0, "fork\n");
    if (child == 0) {
        close(orders[1]), close(signs[0]);
        prepare_and_run(orders[0], signs[1], is_timed);
    }
    close(orders[0]), close(signs[1]);
    *go = orders[1], *done = signs[0];
    return child;
}

static int64_t now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1000000000LL + at.tv_nsec;
}

static void time_calls(uint32_t count) {
    int go, done, status = 0;
    char ready;
    pid_t preparer = start(1, &go, &done);
    need(waitpid(preparer, &status, WUNTRACED) == preparer && WIFSTOPPED(status), "preparing\n");
    struct range all = {0, count};
    need(read(done, &ready, 1) == 1, "preparing\n");
    usleep(50); /* until it waits for its orders */
    int64_t started = now();
    (void)!write(go, &all, sizeof all);
    pid_t ended = waitpid(-1, &status, 0);
    int64_t nanoseconds = now() - started;
    need(ended != preparer, "the stopped process ended\n");
    kill(preparer, SIGKILL);
    waitpid(preparer, NULL, 0);
    close(go), close(done);
    reply(DIED, status, nanoseconds);
}

static void load(uint32_t size) {
    static char bytes[LIBRARY_BYTES];
    need(size <= sizeof bytes, "the library is too large\n");
    read_all(commands, bytes, size);
    unlink(library);
    int fd = open(library, O_CREAT | O_WRONLY | O_EXCL, 0700);
    need(fd >= 0 && write(fd, bytes, size) == (ssize_t)size, "writing the library\n");
    close(fd);
    reply(FINISHED, 0, 0);
}

static void drop_capabilities(void) {
    struct { uint32_t version; int pid; } header = {0x20080522, 0};
    uint32_t none[6] = {0};
    need(syscall(SYS_capset, &header, none) == 0, "capset\n");
}

int main(int n, char **arguments) {
    need(n == 9, "arguments\n");
    library = arguments[1];
    commands = atoi(arguments[2]), replies = atoi(arguments[3]), inputs = atoi(arguments[4]), outputs = atoi(arguments[5]);
    input_bytes = strtoull(arguments[6], NULL, 10), output_bytes = strtoull(arguments[7], NULL, 10);
    slot_bytes = strtoull(arguments[8], NULL, 10);
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    drop_capabilities();
    limit(RLIMIT_AS, MEMORY_BYTES), limit(RLIMIT_CORE, 0), limit(RLIMIT_FSIZE, LIBRARY_BYTES), limit(RLIMIT_NOFILE, 64);
    reply(FINISHED, 0, 0);
    int go = -1, done = -1, status = 0;
    pid_t child = -1;
    for (struct command command;;) {
        read_all(commands, &command, sizeof command);
        struct range one = {command.number, 1};
        char sign;
        switch (command.what) {
            case LOAD: load(command.number); break;
            case TIME: time_calls(command.number); break;
            case OPEN:
                child = start(0, &go, &done);
                need(read(done, &sign, 1) == 1, "preparing\n");
                reply(FINISHED, 0, 0);
                break;
            case CALL:
                if (write(go, &one, sizeof one) == sizeof one && read(done, &sign, 1) == 1) {
                    reply(FINISHED, 0, 0);
                } else {
                    reply(DIED, 0, 0);
                }
                break;
            case CLOSE:
                close(go), waitpid(child, &status, 0), close(done);
                reply(DIED, status, 0);
                break;
            default: need(0, "unknown command\n");
        }
    }
}
