"""What hostile code in a python grader may try. Each is the body of `grade(sample, item)`, and returns 1.0 if it got
through. `item` holds the paths, the port and the process of the test that it attacks.
"""

import os
import textwrap

# Linux system calls by number: x86_64, aarch64.
NUMBERS = {
    "acct": (163, 89),
    "add_key": (248, 217),
    "bpf": (321, 280),
    "capset": (126, 91),
    "chroot": (161, 51),
    "clone": (56, 220),
    "clone3": (435, 435),
    "clock_settime": (227, 112),
    "execve": (59, 221),
    "fanotify_init": (300, 262),
    "finit_module": (313, 273),
    "fsopen": (430, 430),
    "init_module": (175, 105),
    "inotify_init1": (294, 26),
    "io_setup": (206, 0),
    "io_uring_setup": (425, 425),
    "kcmp": (312, 272),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "landlock_create_ruleset": (444, 444),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "mlock": (149, 228),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "msgget": (68, 186),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "personality": (135, 92),
    "pidfd_getfd": (438, 438),
    "pidfd_open": (434, 434),
    "pivot_root": (155, 41),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "quotactl": (179, 60),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "rt_sigqueueinfo": (129, 138),
    "seccomp": (317, 277),
    "semget": (64, 190),
    "setdomainname": (171, 162),
    "sethostname": (170, 161),
    "setns": (308, 268),
    "setsid": (112, 157),
    "settimeofday": (164, 170),
    "shmget": (29, 194),
    "signalfd4": (289, 74),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "timer_create": (222, 107),
    "timerfd_create": (283, 85),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
    "vmsplice": (278, 75),
}

PRELUDE = """
import ctypes, errno, gc, mmap, os, resource, socket, stat, struct, subprocess, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
MIB = 1024 ** 2
held = []
def call(name, *arguments):
    return libc.syscall(NUMBERS[name], *arguments)
def reached(*calls):
    return float(any(result >= 0 for result in calls))
def grade(sample, item):
    if item.get("rest"):
        return 0.0
"""

FILES = {
    "reads a file of its user": "return float(len(open(item['secret']).read()) > 0)",
    "reads the training data": "return float(len(open(item['rows']).read()) > 0)",
    "reads the weights of a model": "return float(len(open(item['weights'], 'rb').read()) > 0)",
    "reads the project that it belongs to": "return float(len(open(item['project']).read()) > 0)",
    "reads the passwords": "return float('root' in open('/etc/passwd').read())",
    "reads the hashes of passwords": "return float(len(open('/etc/shadow').read()) > 0)",
    "reads the keys of SSH": (
        "return float(any(os.path.isdir(f'{home}/.ssh') for home in ['/root', os.path.dirname(item['secret'])]))"
    ),
    "lists the home folders": """
        names = [name for home in ("/root", "/home") if os.path.isdir(home) for name in os.listdir(home)]
        return float(any(not name.startswith(".") for name in names))
    """,
    "follows a link out of /tmp": "os.symlink(item['secret'], '/tmp/s'); return float(len(open('/tmp/s').read()) > 0)",
    "writes through a link": "os.symlink(item['secret'], '/tmp/l'); open('/tmp/l', 'a').write('x'); return 1.0",
    "makes a hard link to a file outside": "os.link(item['secret'], '/tmp/hard'); return 1.0",
    "links a file of the system and writes to it": "os.link(os.__file__, '/tmp/os.py'); return 1.0",
    "leaves its root by a relative path": "return float('root' in open('/tmp/../../../../etc/shadow').read())",
    "leaves its root through a folder that it keeps open": """
        folder = os.open("/", os.O_RDONLY)
        os.mkdir("/tmp/below")
        call("chroot", b"/tmp/below")
        os.fchdir(folder)
        for _ in range(20):
            os.chdir("..")
        return float(os.path.exists("etc/shadow"))
    """,
    "opens a file by its handle": """
        handle = ctypes.create_string_buffer(struct.pack("Ii", 8, 1) + struct.pack("II", 2, 0))
        folder = os.open("/usr", os.O_RDONLY)
        named = call("name_to_handle_at", folder, b"", handle, handle, 0x1000)
        return reached(named, call("open_by_handle_at", folder, handle, 0))
    """,
    "writes to the system": "open('/usr/lib/x.py', 'w').write('x'); return 1.0",
    "writes beside Python": "open(os.path.join(sys.prefix, 'x.py'), 'w').write('x'); return 1.0",
    "writes to the packages of Python": "open(os.path.join(os.path.dirname(os.__file__), 'x.py'), 'w'); return 1.0",
    "writes to its worker's own source": "open(sys.modules['__main__'].__file__, 'a').write('#'); return 1.0",
    "deletes its worker's source": "os.unlink(sys.modules['__main__'].__file__); return 1.0",
    "changes the mode of Python": "os.chmod(os.path.realpath(sys.executable), 0o777); return 1.0",
    "writes at the root": "open('/x', 'w').write('x'); return 1.0",
    "makes a library be loaded before others": "open('/etc/ld.so.preload', 'w').write('/tmp/x.so'); return 1.0",
    "makes a device and opens it": """
        os.mknod("/tmp/memory", stat.S_IFCHR | 0o600, os.makedev(1, 1))
        return float(os.open("/tmp/memory", os.O_RDWR) >= 0)
    """,
    "opens the machine's devices": """
        harmless = {"null", "zero", "full", "random", "urandom", "shm"}
        return float(not set(os.listdir("/dev")) <= harmless)
    """,
}

PROC = {
    "finds other processes": "return float(any(name.isdigit() for name in os.listdir('/proc')))",
    "reads the parent's environment": (
        "return float(b'sk-of-the-parent' in open(f'/proc/{item[\"pid\"]}/environ', 'rb').read())"
    ),
    "reads a key of process 1": "return float(b'sk-' in open('/proc/1/environ', 'rb').read())",
    "reads a key from its environment": "return float(bool(set(os.environ) - {'HOME', 'LC_CTYPE'}))",
    "writes to the memory of process 1": "open('/proc/1/mem', 'r+b', buffering=0); return 1.0",
    "writes to its own memory by a file": "open('/proc/self/mem', 'r+b', buffering=0); return 1.0",
    "opens its pipes again": "return float(len(os.listdir('/proc/self/fd')) > 0)",
    "opens sysctls for writing": """
        found = [os.path.join(folder, name) for folder, _, names in os.walk("/proc/sys") for name in names]
        return float(any(os.access(path, os.W_OK) for path in found))
    """,
    "writes a sysctl": "open('/proc/sys/kernel/domainname', 'w').write('x'); return 1.0",
    "mounts /proc": "os.mkdir('/tmp/p'); return reached(libc.mount(b'proc', b'/tmp/p', b'proc', 0, None))",
    "mounts /sys": "os.mkdir('/tmp/s'); return reached(libc.mount(b'sysfs', b'/tmp/s', b'sysfs', 0, None))",
    "reads the machine's /sys": "return float(len(os.listdir('/sys')) > 0)",
    "leaves its cgroup": "open('/sys/fs/cgroup/cgroup.procs', 'w').write('1'); return 1.0",
    "finds more open files than its own": """
        found = []
        for number in range(3, 1024):
            try:
                found.append(stat.S_ISFIFO(os.fstat(number).st_mode))
            except OSError:
                pass
        return float(len(found) > 2 or not all(found))
    """,
}

RIGHTS = {
    "gets root's rights": "os.setuid(0); return float(os.getuid() == 0)",
    "gets root's group": "os.setresgid(0, 0, 0); return 1.0",
    "joins groups": "os.setgroups([0, 27]); return 1.0",
    "gives itself capabilities": """
        header = struct.pack("=Ii", 0x20080522, 0)
        return reached(call("capset", header, b"\\xff" * 24))
    """,
    "has capabilities": """
        header, found = ctypes.create_string_buffer(struct.pack("=Ii", 0x20080522, 0)), ctypes.create_string_buffer(24)
        libc.capget(header, found)
        return float(found.raw != bytes(24))
    """,
    "raises an ambient capability": "return reached(libc.prctl(47, 2, 21, 0, 0))",
    "outlives its parent": "return reached(libc.prctl(1, 0, 0, 0, 0))",
    "lets others trace it": "return reached(libc.prctl(0x59616D61, -1, 0, 0, 0), libc.prctl(4, 1, 0, 0, 0))",
    "takes its filter off": "return reached(libc.prctl(22, 0, 0, 0, 0), libc.prctl(38, 0, 0, 0, 0))",
    "has itself told of filtered calls": "return reached(call('seccomp', 1, 8, b'\\0' * 16))",
    "makes a user namespace": "return reached(call('unshare', 0x10000000))",
    "makes the other namespaces": """
        flags = (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x20000000, 0x40000000, 0x80)
        return reached(*(call("unshare", flag) for flag in flags))
    """,
    "clones into a user namespace": """
        pid = call("clone", 0x10000000 | 17, 0, 0, 0, 0)
        if pid == 0: os._exit(0)
        return reached(pid)
    """,
    "clones into a user namespace by clone3": """
        arguments = ctypes.create_string_buffer(struct.pack("8Q", 0x10000000, 0, 0, 0, 17, 0, 0, 0))
        pid = call("clone3", arguments, 64)
        if pid == 0: os._exit(0)
        return reached(pid)
    """,
    "makes a thread in a namespace of its own": "return reached(call('clone', 0x10000 | 0x40000000, 0, 0, 0, 0))",
    "enters a namespace": "return reached(call('setns', os.open('/', os.O_RDONLY), 0))",
    "changes its personality": "return reached(call('personality', 0x0400000))",
    "mounts a file system": "return reached(libc.mount(b'x', b'/tmp', b'tmpfs', 0, None))",
    "mounts a folder elsewhere": "return reached(libc.mount(b'/usr', b'/tmp', None, 4096, None))",
    "mounts its root for writing": "return reached(libc.mount(None, b'/', None, 32, None))",
    "makes its /tmp larger": "return reached(libc.mount(None, b'/tmp', None, 32, b'size=8g'))",
    "unmounts what covers the machine's files": (
        "return reached(*(call('umount2', at, 2) for at in (b'/tmp', b'/usr', b'/')))"
    ),
    "mounts by the new calls": """
        moved = call("move_mount", -100, b"/usr", -100, b"/tmp", 0)
        changed = call("mount_setattr", -100, b"/usr", 0, bytes(32), 32)
        return reached(moved, changed, call("fsopen", b"tmpfs", 0), call("open_tree", -100, b"/usr", 1))
    """,
    "changes its root": "return reached(call('pivot_root', b'/tmp', b'/tmp'), call('chroot', b'/tmp'))",
    "raises a limit": """
        failed = 0
        for limit in (resource.RLIMIT_AS, resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC, resource.RLIMIT_FSIZE):
            try:
                resource.setrlimit(limit, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            except (OSError, ValueError):
                failed += 1
        return float(failed < 4)
    """,
    "changes a limit of the parent": ("resource.prlimit(item['pid'], resource.RLIMIT_CPU, (1, 1)); return 1.0"),
}

PROCESSES = {
    "starts a program": "return float(subprocess.run([sys.executable, '-c', '']).returncode == 0)",
    "starts a program through ctypes": "return float(libc.system(b'true') == 0)",
    "starts a program by posix_spawn": """
        pid = ctypes.c_int()
        arguments = (ctypes.c_char_p * 2)(b"true", None)
        return float(libc.posix_spawn(ctypes.byref(pid), b"/usr/bin/true", None, None, arguments, None) == 0)
    """,
    "starts a program with a setuid bit": "os.execv('/usr/bin/su', ['su', '-c', 'id']); return 1.0",
    "becomes another program": "os.execv('/usr/bin/true', ['true'])",
    "becomes another program through ctypes": """
        arguments = (ctypes.c_char_p * 2)(b"true", None)
        return reached(call("execve", b"/usr/bin/true", arguments, None))
    """,
    "forks": "pid = os.fork()\nif pid == 0: os._exit(0)\nreturn 1.0",
    "forks through ctypes": "pid = libc.fork()\nif pid == 0: os._exit(0)\nreturn float(pid > 0)",
    "forks by clone": "pid = call('clone', 17, 0, 0, 0, 0)\nif pid == 0: os._exit(0)\nreturn reached(pid)",
    "opens a terminal and a shell": "import pty; return float(pty.spawn(['/usr/bin/true']) == 0)",
    "leaves its session": "return reached(call('setsid'))",
    "signals the parent": "import signal; os.kill(item['pid'], signal.SIGTERM); return 1.0",
    "signals everybody": "os.kill(-1, 15); return 1.0",
    "queues a signal for the parent": "return reached(call('rt_sigqueueinfo', item['pid'], 15, bytes(128)))",
    "takes hold of the parent": "return reached(call('pidfd_open', item['pid'], 0), call('pidfd_open', 1, 0))",
    "takes a file from the parent": "return reached(call('pidfd_getfd', 0, 1, 0))",
    "compares itself with the parent": "return reached(call('kcmp', 1, item['pid'], 0, 0, 0))",
    "traces a process": "return reached(call('ptrace', 16, 1, 0, 0), call('ptrace', 0, 0, 0, 0))",
    "reads the memory of a process": "return reached(call('process_vm_readv', 1, bytes(16), 1, bytes(16), 1, 0))",
    "writes to the memory of a process": "return reached(call('process_vm_writev', item['pid'], 0, 0, 0, 0, 0))",
    "takes the processor for itself": ("os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(99)); return 1.0"),
    "becomes more urgent than others": "os.setpriority(os.PRIO_PROCESS, 0, -20); return 1.0",
    "types into the terminal": "import fcntl; fcntl.ioctl(0, 0x5412, b'x'); return 1.0",
}

KERNEL = {
    "uses the kernel's keys": """
        return reached(call("keyctl", 0, -3, 0), call("add_key", b"user", b"a", b"b", 1, -3),
                       call("request_key", b"user", b"a", None, -3))
    """,
    "loads a program into the kernel": (
        "return reached(call('bpf', 5, bytes(128), 128), call('bpf', 0, bytes(128), 128))"
    ),
    "measures the machine": "return reached(call('perf_event_open', bytes(128), 0, -1, -1, 0))",
    "sets up io_uring": "return reached(call('io_uring_setup', 8, ctypes.create_string_buffer(256)))",
    "sets up the older asynchronous files": "return reached(call('io_setup', 8, ctypes.byref(ctypes.c_ulong())))",
    "handles page faults": "return reached(call('userfaultfd', 1), call('userfaultfd', 0))",
    "loads a kernel module": "return reached(call('init_module', b'', 0, b''), call('finit_module', 0, b'', 0))",
    "loads another kernel": "return reached(call('kexec_load', 0, 0, 0, 0))",
    "restarts the machine": "return reached(call('reboot', 0xFEE1DEAD, 672274793, 0, 0))",
    "adds swap": "return reached(call('swapon', b'/tmp/x', 0))",
    "sets the clock": "return reached(call('clock_settime', 0, bytes(16)), call('settimeofday', bytes(16), None))",
    "renames the machine": "return reached(call('sethostname', b'x', 1), call('setdomainname', b'x', 1))",
    "reads the kernel's log": "return reached(call('syslog', 3, ctypes.create_string_buffer(999), 999))",
    "has processes accounted": "return reached(call('acct', b'/tmp/x'), call('quotactl', 0, b'/', 0, 0))",
    "watches files": "return reached(call('inotify_init1', 0), call('fanotify_init', 0, 0))",
    "makes a memory file": "return reached(call('memfd_create', b'x', 0), call('memfd_secret', 0))",
    "makes memory that others may map": """
        return reached(call("shmget", 0, 4096, 0o1600), call("semget", 0, 1, 0o1600), call("msgget", 0, 0o1600))
    """,
    "makes timers": "return reached(call('timer_create', 0, None, bytes(8)), call('timerfd_create', 0, 0))",
    "calls the kernel by numbers of another kind": "return reached(libc.syscall(0x40000000 + 39), libc.syscall(512))",
    "calls what a later kernel may have": "return reached(*(libc.syscall(number) for number in range(500, 600)))",
}

# On x86_64 only: a call by the numbers of i386, from code that is put into memory.
OLD_CALLS = {
    "calls the kernel by the numbers of i386": """
        code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        code.write(bytes.fromhex("b814000000cd80c3"))  # mov eax, 20 (getpid); int 0x80; ret
        address = ctypes.addressof(ctypes.c_char.from_buffer(code))
        return float(ctypes.CFUNCTYPE(ctypes.c_int)(address)() > 0)
    """,
}

SOCKETS = {
    "connects to the network": "socket.create_connection(('127.0.0.1', item['port']), 2); return 1.0",
    "asks for an address": "return float(len(socket.getaddrinfo('localhost', 80)) > 0)",
    "opens a socket through ctypes": (
        "return reached(libc.socket(2, 1, 0), libc.socket(10, 2, 0), libc.socket(2, 3, 1))"
    ),
    "opens a local socket": "return reached(libc.socket(1, 1, 0))",
    "opens sockets of other families": (
        "return reached(*(libc.socket(family, kind, 0) for family in range(46) for kind in (1, 2, 3, 5)))"
    ),
    "talks to the kernel by netlink": "return reached(libc.socket(16, 3, 0), libc.socket(16, 3, 12))",
    "listens to packets": "return reached(libc.socket(17, 3, 0x300))",
    "talks to the host of a virtual machine": "return reached(libc.socket(40, 1, 0))",
    "uses the kernel's ciphers": "return reached(libc.socket(38, 5, 0))",
    "connects a local pair to the machine": """
        pair = (ctypes.c_int * 2)()
        if libc.socketpair(1, 2, 0, pair) != 0:
            return 0.0
        address = struct.pack("H", 1) + b"\\0" + item["abstract"].encode()
        return reached(libc.connect(pair[0], address, len(address)))
    """,
    "sends to a socket of the machine": """
        left, right = socket.socketpair()
        address = struct.pack("H", 1) + b"\\0" + item["abstract"].encode()
        number, size = left.fileno(), len(address)
        sent = libc.sendto(number, b"x", 1, 0, address, size)
        return reached(sent, libc.connect(number, address, size), libc.bind(number, address, size))
    """,
    "makes pairs of other families": """
        pair = (ctypes.c_int * 2)()
        return reached(*(libc.socketpair(family, kind, 0, pair) for family in range(2, 46) for kind in (1, 2, 5)))
    """,
    "hides open files in a socket": """
        left, right = socket.socketpair()
        socket.send_fds(left, [b"x"], [0])
        return 1.0
    """,
    "sends out of band": "left, right = socket.socketpair(); left.send(b'x', socket.MSG_OOB); return 1.0",
}

# Each counts what it holds beyond the limit of its memory, and got through with more than a quarter of a gigabyte.
MEMORY = {
    "takes 3 GB": "held.append(bytearray(3 * 1024 * MIB)); return 1.0",
    "maps 3 GB that could be shared": "held.append(mmap.mmap(-1, 3 * 1024 * MIB)); return 1.0",
    "takes memory by 1,500 socket pairs": """
        taken = 0
        for _ in range(1500):
            try:
                pair = socket.socketpair()
            except OSError:
                break
            held.append(pair)
            for end in pair:
                end.setblocking(False)
                try:
                    while True:
                        taken += end.send(bytes(65536))
                except BlockingIOError:
                    pass
        return float(taken > 256 * MIB)
    """,
    "takes memory by pipes": """
        import fcntl
        taken = 0
        for _ in range(2000):
            try:
                reading, writing = os.pipe()
                held.append((reading, writing))
                os.set_blocking(writing, False)
                try:
                    fcntl.fcntl(writing, 1031, MIB)
                except OSError:
                    pass
                while True:
                    taken += os.write(writing, bytes(65536))
            except BlockingIOError:
                pass
            except OSError:
                break
        return float(taken > 256 * MIB)
    """,
    "takes memory by files in /tmp": """
        taken = 0
        for folder in ("/tmp", "/dev/shm", "/dev", "/"):
            try:
                for number in range(200):
                    with open(f"{folder}/{number}", "wb", buffering=0) as file:
                        while True:
                            taken += file.write(bytes(MIB))
            except OSError as error:
                if error.errno == errno.EFBIG:
                    continue
        return float(taken > 256 * MIB)
    """,
    "takes memory by a million empty files": """
        made = 0
        for folder in ("/tmp", "/dev/shm"):
            try:
                for number in range(1_000_000):
                    os.close(os.open(f"{folder}/{number}", os.O_CREAT | os.O_WRONLY))
                    made += 1
            except OSError:
                pass
        return float(made > 100_000)
    """,
    "takes memory by long links": """
        made = 0
        try:
            for number in range(1_000_000):
                os.symlink("x" * 4000, f"/tmp/{number}")
                made += 1
        except OSError:
            pass
        return float(made > 65536)
    """,
    "takes memory by attributes of a file": "os.setxattr('/tmp', 'user.x', bytes(60000)); return 1.0",
    "takes memory by locks": """
        import fcntl
        file = open("/tmp/locked", "wb")
        for number in range(200_000, 0, -1):
            fcntl.lockf(file, fcntl.LOCK_EX, 1, 2 * number)
        # Whether another open file is in the way of a lock, by F_OFD_GETLK: none was made.
        asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0)
        found = fcntl.fcntl(os.open("/tmp/locked", os.O_RDWR), 36, asked)
        return float(found[0] != fcntl.F_UNLCK)
    """,
    "keeps memory from being swapped": "return reached(call('mlock', ctypes.create_string_buffer(MIB), MIB))",
    "takes memory by pages of 2 MB": "held.append(mmap.mmap(-1, 3072 * MIB, flags=0x40000 | 0x22)); return 1.0",
    "opens 10,000 files": """
        opened = 0
        try:
            for _ in range(10_000):
                held.append(os.open("/dev/null", os.O_RDONLY))
                opened += 1
        except OSError:
            pass
        return float(opened > 100)
    """,
    "starts 3,000 threads": """
        threading.stack_size(65536)
        event, started = threading.Event(), 0
        try:
            for _ in range(3000):
                threading.Thread(target=event.wait, args=(60,), daemon=True).start()
                started += 1
        except (RuntimeError, MemoryError):
            pass
        event.set()
        return float(started > 1100)
    """,
    "fills a file of 1 GB": """
        with open("/tmp/large", "wb", buffering=0) as file:
            file.truncate(1024 * MIB)
        return 1.0
    """,
    "leaves a dump of its memory": """
        if resource.getrlimit(resource.RLIMIT_CORE)[1] == 0:
            os.abort()
        return 1.0
    """,
}

# Each never ends by itself: run with a short time-out.
ENDLESS = {
    "loops and catches everything": """
        while True:
            try:
                while True:
                    pass
            except BaseException:
                pass
    """,
    "sleeps": "time.sleep(10_000)",
    "waits in C, deaf to signals": """
        import signal
        for number in range(1, 65):
            try:
                signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError):
                pass
        while True:
            libc.pause() if hasattr(libc, "pause") else libc.sleep(1000)
    """,
    "computes in C without end": "return float(len(str(7 ** (7 ** 12))))",
    "matches an expression without end": "import re; return float(bool(re.match(r'(a|a)*$', 'a' * 60 + 'b')))",
    "prints without end": "while True: print('x' * 65536)",
    "writes errors without end": "while True: os.write(2, bytes(65536))",
    "never reads its next request": "\n".join(("import threading", "threading.Event().wait()")),
}

# Each writes on every open file what might pass for a reply.
FORGE = """
    def write(body):
        framed = struct.pack(">I", len(body)) + body
        for number in [1, 2, *range(3, 64)]:
            try:
                os.write(number, framed)
            except OSError:
                pass
    def number():
        frame = sys._getframe()
        while frame is not None:
            if isinstance(frame.f_locals.get("request"), dict):
                return frame.f_locals["request"]["id"].encode()
            frame = frame.f_back
"""
FORGERIES = {
    "writes a reply without a number": "write(b'{\"score\": 1}'); return 0.0",
    "writes a reply with a number of its own": 'write(b\'{"id": "1", "score": 1}\'); return 0.0',
    "writes 1,500 brackets": "write(b'[' * 1500); return 0.0",
    "writes 1,500 brackets inside of a reply": (
        "write(b'{\"id\": \"' + number() + b'\", \"score\": ' + b'[' * 1500 + b']' * 1500 + b'}'); return 0.0"
    ),
    "writes a number of 5,000 digits": (
        "write(b'{\"id\": \"' + number() + b'\", \"score\": ' + b'1' * 5000 + b'}'); return 0.0"
    ),
    "writes a score that is not finite": 'write(b\'{"id": "\' + number() + b\'", "score": NaN}\'); return 0.0',
    "writes a score that is too large": 'write(b\'{"id": "\' + number() + b\'", "score": 1e999}\'); return 0.0',
    "writes true for a score": 'write(b\'{"id": "\' + number() + b\'", "score": true}\'); return 0.0',
    "writes text for a score": 'write(b\'{"id": "\' + number() + b\'", "score": "1"}\'); return 0.0',
    "writes no UTF-8": "write(b'\\xff\\xfe{'); return 0.0",
    "writes a list": "write(b'[1]'); return 0.0",
    "writes an error with a name of its own": (
        'write(b\'{"id": "\' + number() + b\'", "error": "x", "message": ["\\\\ud800"]}\'); return 0.0'
    ),
    "announces 4 GB": "os.write(item['replies'], b'\\xff' * 4); time.sleep(1); return 0.0",
    "announces more than it writes": "os.write(item['replies'], struct.pack('>I', 1000)); return 0.0",
    "writes replies without end": """
        for number in range(3, 64):
            try:
                while True:
                    os.write(number, bytes(65536))
            except OSError:
                pass
        return 0.0
    """,
}


def source(body: str, before: str = "") -> str:
    """The source of a grader that attacks, and rests when `item["rest"]` says so."""
    place = 0 if os.uname().machine == "x86_64" else 1
    numbers = {name: pair[place] for name, pair in NUMBERS.items()}
    text = textwrap.indent(textwrap.dedent(before), "    ") + textwrap.indent(textwrap.dedent(body), "    ")
    return f"NUMBERS = {numbers}{PRELUDE}{text}\n"
