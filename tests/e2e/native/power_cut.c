/* Notes what has reached the disk's platters, so that a test can take away all the rest as a loss of power would.
 *
 * Preloaded (LD_PRELOAD) into the process under test. POWER_CUT_FOLDER names a folder (absolute, no symbolic links, no
 * slash at its end), POWER_CUT_NOTES a file outside of it that gets a line
 *     F INODE LENGTH               after a successful fsync or fdatasync of a file: how long it was before the call
 *     D INODE NAME/INODE/...       after a successful fsync of a folder: what was in it before the call
 *     X INODE                      before a file or folder is removed: its inode may come back as something else
 * A line is written before the call returns, so whatever a process does because of a sync comes after its note. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int inside(const char *path)
{
    const char *folder = getenv("POWER_CUT_FOLDER");
    size_t size = folder ? strlen(folder) : 0;
    return size && path && strncmp(path, folder, size) == 0 && (path[size] == 0 || path[size] == '/');
}

/* The path of a descriptor inside the folder, else 0. */
static int path_of(int fd, char path[PATH_MAX])
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, PATH_MAX - 1);
    if (size <= 0)
        return 0;
    path[size] = 0;
    return inside(path);
}

static void note(const char *line)
{
    int fd = open(getenv("POWER_CUT_NOTES"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    size_t size = strlen(line);
    /* A note that gets lost would make the test too hard, and its failure a riddle. */
    if (fd < 0 || write(fd, line, size) != (ssize_t)size)
        abort();
    close(fd);
}

/* What a sync that begins now will have made durable; freed by the caller. */
static char *state_of(int fd)
{
    char path[PATH_MAX], *text = 0;
    struct stat status;
    if (!path_of(fd, path) || fstat(fd, &status) != 0)
        return 0;
    if (!S_ISDIR(status.st_mode)) {
        if (asprintf(&text, "F %llu %llu\n", (unsigned long long)status.st_ino, (unsigned long long)status.st_size) < 0)
            abort();
        return text;
    }
    size_t size;
    FILE *line = open_memstream(&text, &size);
    DIR *folder = opendir(path);
    fprintf(line, "D %llu ", (unsigned long long)status.st_ino);
    for (struct dirent *entry; folder && (entry = readdir(folder));)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            fprintf(line, "%s/%llu/", entry->d_name, (unsigned long long)entry->d_ino);
    if (folder)
        closedir(folder);
    fputc('\n', line);
    fclose(line);
    return text;
}

#define SYNC(name)                      \
    int name(int fd)                    \
    {                                   \
        char *state = state_of(fd);     \
        int result = REAL(name)(fd);    \
        if (state && result == 0)       \
            note(state);                \
        free(state);                    \
        return result;                  \
    }

SYNC(fsync)
SYNC(fdatasync)

#define REMOVE(name)                                                                  \
    int name(const char *path)                                                        \
    {                                                                                 \
        struct stat status;                                                           \
        char line[64];                                                                \
        if (inside(path) && lstat(path, &status) == 0) {                              \
            snprintf(line, sizeof line, "X %llu\n", (unsigned long long)status.st_ino); \
            note(line);                                                               \
        }                                                                             \
        return REAL(name)(path);                                                      \
    }

REMOVE(unlink)
REMOVE(rmdir)
