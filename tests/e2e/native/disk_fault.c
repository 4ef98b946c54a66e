/* Lets the files of one folder fail as a full or read-only disk would, while a switch says so.
 *
 * Preloaded (LD_PRELOAD) into the process under test. DISK_FAULT_FOLDER names the folder (absolute, no symbolic links),
 * DISK_FAULT_SWITCH a file: while it says "full", writes and growth fail with ENOSPC, a longer write only after its first
 * half has been written, and what removing and cutting files gives back is room again; while it says "read-only", writes, growth, opening for writing and removing fail with EROFS;
 * anything else, and an absent file, lets everything pass. The first refusal leaves the file DISK_FAULT_SWITCH.hit. Works without privileges, in any container, and can be undone. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int inside(const char *path)
{
    const char *folder = getenv("DISK_FAULT_FOLDER");
    return folder && path && strncmp(path, folder, strlen(folder)) == 0;
}

/* 0, ENOSPC or EROFS. */
static int fault(void)
{
    const char *name = getenv("DISK_FAULT_SWITCH");
    char text[16] = {0};
    int fd = name ? (int)syscall(SYS_openat, AT_FDCWD, name, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return 0;
    ssize_t size = read(fd, text, sizeof text - 1);
    close(fd);
    if (size <= 0)
        return 0;
    int error = strncmp(text, "full", 4) == 0 ? ENOSPC : strncmp(text, "read-only", 9) == 0 ? EROFS : 0;
    char hit[PATH_MAX];
    if (error && snprintf(hit, sizeof hit, "%s.hit", name) < (int)sizeof hit) {
        fd = (int)syscall(SYS_openat, AT_FDCWD, hit, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        if (fd >= 0)
            close(fd);
    }
    return error;
}

static int fault_at(int fd)
{
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size <= 0)
        return 0;
    path[size] = 0;
    return inside(path) ? fault() : 0;
}

static int refused(int error)
{
    if (error)
        errno = error;
    return error;
}

/* How much of a write a full disk still takes: a half of it, until little is left. */
static size_t half(int error, size_t size)
{
    return error == ENOSPC && size > 64 ? size / 2 : 0;
}

/* What this process has given back since the disk was full, less what it has taken. */
static _Atomic long long room;

static int fits(size_t size)
{
    long long left = room;
    while (left >= (long long)size)
        if (atomic_compare_exchange_weak(&room, &left, left - (long long)size))
            return 1;
    return 0;
}

#define WRITE(name, parameters, ...)                                  \
    ssize_t name parameters                                           \
    {                                                                 \
        int error = fault_at(fd);                                     \
        if (error && !(error == ENOSPC && fits(size))) {              \
            if (!(size = half(error, size)) && refused(error))        \
                return -1;                                            \
            room -= (long long)size;                                  \
        }                                                             \
        return REAL(name)(__VA_ARGS__);                               \
    }

WRITE(write, (int fd, const void *bytes, size_t size), fd, bytes, size)
WRITE(pwrite, (int fd, const void *bytes, size_t size, off_t offset), fd, bytes, size, offset)
WRITE(pwrite64, (int fd, const void *bytes, size_t size, off64_t offset), fd, bytes, size, offset)

static void give_back(int error, int fd, long long size)
{
    struct stat status;
    if (error == ENOSPC && fstat(fd, &status) == 0 && status.st_size > size)
        room += status.st_size - size;
}

#define TRUNCATE(name, type)                          \
    int name(int fd, type size)                       \
    {                                                 \
        int error = fault_at(fd);                     \
        give_back(error, fd, size);                   \
        return error == EROFS && refused(error) ? -1 : REAL(name)(fd, size); \
    }

TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

int posix_fallocate(int fd, off_t offset, off_t size)
{
    int error = fault_at(fd);
    return error ? error : REAL(posix_fallocate)(fd, offset, size);
}

int fallocate64(int fd, int mode, off64_t offset, off64_t size)
{
    return refused(fault_at(fd)) ? -1 : REAL(fallocate64)(fd, mode, offset, size);
}

static int opening(const char *path, int flags)
{
    int changes = (flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC));
    return changes && inside(path) && refused(fault() == EROFS ? EROFS : 0);
}

static mode_t mode_of(int flags, va_list arguments)
{
    return flags & (O_CREAT | __O_TMPFILE) ? va_arg(arguments, mode_t) : 0;
}

#define OPEN(name)                                                      \
    int name(const char *path, int flags, ...)                          \
    {                                                                   \
        va_list arguments;                                              \
        va_start(arguments, flags);                                     \
        mode_t mode = mode_of(flags, arguments);                        \
        va_end(arguments);                                              \
        return opening(path, flags) ? -1 : REAL(name)(path, flags, mode); \
    }

OPEN(open)
OPEN(open64)

int unlink(const char *path)
{
    struct stat status;
    int error = inside(path) ? fault() : 0;
    if (error == EROFS && refused(error))
        return -1;
    int is_counted = error == ENOSPC && stat(path, &status) == 0;
    int result = REAL(unlink)(path);
    if (result == 0 && is_counted)
        room += status.st_size;
    return result;
}
