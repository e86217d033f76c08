#include "SqliteFiles.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <system_error>

#include "../Server/Files.hpp"
#include "Store.hpp"

namespace Net::SMTP {

namespace {

constexpr std::size_t sweep_step = 500;  // files, while nobody else can commit
constexpr std::size_t most_doubtful = 100'000;

[[noreturn]] void fail(const std::string& what) { throw std::system_error(errno, std::generic_category(), what); }

struct flock whole(short type, int octet) {
    struct flock lock {};
    lock.l_type = type;
    lock.l_whence = SEEK_SET;
    lock.l_start = octet;
    lock.l_len = 1;
    return lock;
}

std::vector<std::string> names_in(const std::string& folder) {
    const std::unique_ptr<DIR, int (*)(DIR*)> dir(opendir(folder.c_str()), closedir);
    if (!dir) fail("read " + folder);
    std::vector<std::string> names;
    for (;;) {
        errno = 0;
        const auto* entry = readdir(dir.get());
        if (!entry && errno != 0) fail("read " + folder);
        if (!entry) return names;
        if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
    }
}

// A body's name is TOKEN-NUMBER. "" of what is not ours.
std::string token_of(const std::string& name) {
    constexpr std::string_view digits = "0123456789";
    const auto end = name.find('-');
    if (end != new_queue_id().size() || name.find_first_not_of(digits, end + 1) != name.npos) return "";
    return name.substr(0, end);
}

}  // namespace

// ---- LockFile ----

LockFile::LockFile(const std::string& path) : fd_(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)) {
    if (!fd_) fail("open " + path);
}

// Locks of the open file, not of the process: two stores of one process exclude each other too, and to close another
// descriptor of the file does not unlock it.
bool LockFile::take(int octet) {
    auto lock = whole(F_WRLCK, octet);
    if (fcntl(fd_.get(), F_OFD_SETLK, &lock) == 0) return true;
    if (errno == EAGAIN || errno == EACCES || errno == EINTR) return false;
    fail("lock a file");
}

void LockFile::release(int octet) {
    auto lock = whole(F_UNLCK, octet);
    fcntl(fd_.get(), F_OFD_SETLK, &lock);
}

bool LockFile::taken(int octet) const {
    auto lock = whole(F_WRLCK, octet);
    if (fcntl(fd_.get(), F_OFD_GETLK, &lock) != 0) fail("look at a lock");
    return lock.l_type != F_UNLCK;
}

bool LockFile::named() const {
    struct stat status {};
    return fstat(fd_.get(), &status) == 0 && status.st_nlink > 0;
}

// ---- folders ----

void sync_folder(const std::string& path) {
    const Descriptor dir(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!dir || fsync(dir.get()) != 0) fail("fsync " + path);
}

void make_folder(const std::string& path) {
    struct stat status {};
    if (stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode)) return;
    const auto slash = path.rfind('/');
    const auto above = slash == path.npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
    if (slash != path.npos && slash != 0) make_folder(above);
    if (mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) fail("make " + path);
    sync_folder(above);
}

std::int64_t extend_file(const std::string& path, std::int64_t step, std::int64_t most) noexcept {
    static constexpr char zeros[64 * 1024] = {};
    const Descriptor file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    const auto begin = file ? lseek(file.get(), 0, SEEK_END) : 0;
    auto at = begin;
    for (const auto end = begin < most ? (begin / step + 1) * step : begin; at < end;) {
        const auto n = pwrite(file.get(), zeros, std::size_t(std::min<off_t>(sizeof zeros, end - at)), at);
        if (n <= 0) break;
        at += n;
    }
    return at;
}

// ---- Reserve ----

// A file system that can't set room aside is taken for one that has enough.
bool Reserve::take() const noexcept {
    const Descriptor file(::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (!file) return false;
    if (fallocate(file.get(), 0, 0, off_t(size_)) == 0 || errno == EOPNOTSUPP) return true;
    release();  // what was taken of it
    return false;
}

void Reserve::release() const noexcept {
    if (truncate(path_.c_str(), 0) != 0) return;
}

// ---- BodyFiles ----

// Whoever sweeps may have taken the file of a token for a dead one's before its lock was there.
std::string BodyFiles::new_name() {
    const std::lock_guard lock(mutex_);
    for (int attempt = 0; !owner_ && attempt < 10; ++attempt) {
        token_ = new_queue_id();
        auto owner = std::make_unique<LockFile>(owners() + '/' + token_);
        if (owner->take() && owner->named()) owner_ = std::move(owner);
    }
    if (!owner_) throw std::system_error(EAGAIN, std::generic_category(), "lock a file in " + owners());
    return token_ + '-' + std::to_string(++count_);
}

std::string BodyFiles::keep(const Message& text) {
    const auto name = new_name();
    const auto path = bodies() + '/' + name;
    const auto& content = text.octets();
    if (text.spooled() && !content->named && name_durably(content->file.get(), path, 0600)) content->named = true;
    else create_durably(path, 0600, [&](int fd) { text.write_to(fd); });
    return name;
}

Message BodyFiles::open(const std::string& name, std::uint64_t size) const {
    auto content = std::make_shared<Content>(nullptr);
    const auto path = bodies() + '/' + name;
    content->file = Descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!content->file) fail("open " + path);
    content->named = true;
    content->size = size;
    return Message(std::move(content));
}

void BodyFiles::remove(const std::string& name) noexcept {
    try {
        if (unlink((bodies() + '/' + name).c_str()) != 0 && errno != ENOENT) doubt(name);
    } catch (...) {  // it will be swept once we are gone
    }
}

void BodyFiles::doubt(const std::string& name) {
    const std::lock_guard lock(mutex_);
    if (doubtful_.size() < most_doubtful) doubtful_.push_back(name);
}

std::vector<std::string> BodyFiles::doubtful() {
    const std::lock_guard lock(mutex_);
    return std::exchange(doubtful_, {});
}

std::uint64_t BodyFiles::sweep_some(const std::vector<std::string>& names, const Unnamed& unnamed) {
    std::uint64_t count = 0;
    for (std::size_t at = 0; at < names.size(); at += sweep_step) {
        const auto end = std::min(names.size(), at + sweep_step);
        const auto gone = unnamed({names.begin() + std::ptrdiff_t(at), names.begin() + std::ptrdiff_t(end)});
        for (const auto& name : gone) remove(name);
        count += gone.size();
    }
    return count;
}

std::uint64_t BodyFiles::sweep(const Unnamed& unnamed) {
    const auto ours = doubtful();
    std::uint64_t count = 0;
    try {
        count = sweep_some(ours, unnamed);
    } catch (...) {
        for (const auto& name : ours) doubt(name);
        throw;
    }
    std::map<std::string, std::vector<std::string>> left;
    for (const auto& token : names_in(owners())) left[token];
    for (auto& name : names_in(bodies())) left[token_of(name)].push_back(std::move(name));
    left.erase("");
    for (const auto& [token, names] : left) {
        const auto path = owners() + '/' + token;
        LockFile owner(path);
        if (!owner.take()) continue;
        // It is dead: nothing of it will be committed any more, and nobody can take its place while we hold the lock.
        count += sweep_some(names, unnamed);
        unlink(path.c_str());
    }
    return count;
}

}  // namespace Net::SMTP
