#include "SqliteLog.hpp"

#include <cstddef>
#include <cstring>
#include <memory>
#include <new>

namespace Net::SMTP {

namespace {

// SQLite's own VFS for Unix can't write 128 KiB at once.
constexpr std::size_t most_kept = 64 << 10;

struct Free {
    void operator()(char* octets) const { sqlite3_free(octets); }
};

// The log as SQLite sees it; the file itself follows it in memory.
struct LogFile {
    sqlite3_file base;
    std::unique_ptr<char, Free> kept;  // of `most_kept` octets, from the first write on
    std::size_t size;
    sqlite3_int64 begin;  // in the file
    int failed;           // what could not be written leaves a hole: nothing of its transaction can be committed

    sqlite3_file* file() { return reinterpret_cast<sqlite3_file*>(this + 1); }
    const sqlite3_io_methods& real() { return *file()->pMethods; }

    void discard() {
        size = 0;
        failed = SQLITE_OK;
    }
    int flush() {
        if (failed == SQLITE_OK && size > 0) failed = real().xWrite(file(), kept.get(), int(size), begin);
        size = 0;
        return failed;
    }
    int write(const void* octets, std::size_t count, sqlite3_int64 at) {
        if (!kept) kept.reset(static_cast<char*>(sqlite3_malloc64(most_kept)));
        const bool behind = at == begin + sqlite3_int64(size) && count <= most_kept - size;
        if (size > 0 && !behind) flush();
        if (failed != SQLITE_OK) return failed;
        if (!kept || count > most_kept) return failed = real().xWrite(file(), octets, int(count), at);
        if (size == 0) begin = at;
        std::memcpy(kept.get() + size, octets, count);
        size += count;
        return SQLITE_OK;
    }
};

LogFile& log_of(sqlite3_file* file) { return *reinterpret_cast<LogFile*>(file); }

int close_log(sqlite3_file* file) {
    auto& log = log_of(file);
    const int result = log.real().xClose(log.file());
    log.~LogFile();
    return result;
}

int read_log(sqlite3_file* file, void* to, int count, sqlite3_int64 at) {
    auto& log = log_of(file);
    const int result = log.flush();
    return result != SQLITE_OK ? result : log.real().xRead(log.file(), to, count, at);
}

int write_log(sqlite3_file* file, const void* octets, int count, sqlite3_int64 at) {
    return log_of(file).write(octets, std::size_t(count), at);
}

int truncate_log(sqlite3_file* file, sqlite3_int64 size) {
    auto& log = log_of(file);
    const int result = log.flush();
    return result != SQLITE_OK ? result : log.real().xTruncate(log.file(), size);
}

int sync_log(sqlite3_file* file, int flags) {
    auto& log = log_of(file);
    const int result = log.flush();
    return result != SQLITE_OK ? result : log.real().xSync(log.file(), flags);
}

int log_size(sqlite3_file* file, sqlite3_int64* size) {
    auto& log = log_of(file);
    const int result = log.flush();
    return result != SQLITE_OK ? result : log.real().xFileSize(log.file(), size);
}

int lock_log(sqlite3_file* file, int level) { return log_of(file).real().xLock(log_of(file).file(), level); }
int unlock_log(sqlite3_file* file, int level) { return log_of(file).real().xUnlock(log_of(file).file(), level); }
int log_reserved(sqlite3_file* file, int* result) {
    return log_of(file).real().xCheckReservedLock(log_of(file).file(), result);
}
int control_log(sqlite3_file* file, int what, void* with) {
    return log_of(file).real().xFileControl(log_of(file).file(), what, with);
}
int log_sector(sqlite3_file* file) { return log_of(file).real().xSectorSize(log_of(file).file()); }
int log_device(sqlite3_file* file) { return log_of(file).real().xDeviceCharacteristics(log_of(file).file()); }

constexpr sqlite3_io_methods methods = {
    .iVersion = 1,
    .xClose = close_log,
    .xRead = read_log,
    .xWrite = write_log,
    .xTruncate = truncate_log,
    .xSync = sync_log,
    .xFileSize = log_size,
    .xLock = lock_log,
    .xUnlock = unlock_log,
    .xCheckReservedLock = log_reserved,
    .xFileControl = control_log,
    .xSectorSize = log_sector,
    .xDeviceCharacteristics = log_device,
    .xShmMap = nullptr,
    .xShmLock = nullptr,
    .xShmBarrier = nullptr,
    .xShmUnmap = nullptr,
    .xFetch = nullptr,
    .xUnfetch = nullptr,
};

sqlite3_vfs* own = nullptr;  // SQLite's

int open_file(sqlite3_vfs*, const char* name, sqlite3_file* file, int flags, int* flags_out) {
    if ((flags & SQLITE_OPEN_WAL) == 0) return own->xOpen(own, name, file, flags, flags_out);
    auto* const log = new (file) LogFile{};
    const int result = own->xOpen(own, name, log->file(), flags, flags_out);
    if (result == SQLITE_OK) log->base.pMethods = &methods;  // without them nobody closes it
    else if (log->file()->pMethods) log->real().xClose(log->file());
    return result;
}

const char* register_vfs() noexcept {
    static sqlite3_vfs ours;
    own = sqlite3_vfs_find(nullptr);
    if (!own) return nullptr;
    ours = *own;
    ours.zName = "net-smtp-queue";
    ours.szOsFile += int(sizeof(LogFile));
    ours.xOpen = open_file;
    return sqlite3_vfs_register(&ours, 0) == SQLITE_OK ? ours.zName : nullptr;
}

}  // namespace

const char* log_vfs() noexcept {
    static const char* const name = register_vfs();
    return name;
}

void discard_log(void* db) noexcept {
    sqlite3_file* file = nullptr;
    sqlite3_file_control(static_cast<sqlite3*>(db), "main", SQLITE_FCNTL_JOURNAL_POINTER, &file);
    if (file && file->pMethods == &methods) log_of(file).discard();
}

}  // namespace Net::SMTP
