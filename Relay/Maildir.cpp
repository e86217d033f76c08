#include "Maildir.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <ctime>
#include <random>
#include <stdexcept>
#include <system_error>
#include <utility>

#include "../Server/Fields.hpp"
#include "../Server/Files.hpp"
#include "FinalText.hpp"

namespace Net::SMTP {

namespace {

constexpr std::size_t most_hostname = 64;  // in a name, which may have 255 octets

[[noreturn]] void fail(const std::string& what, int error = errno) {
    throw std::system_error(error, std::generic_category(), what);
}

// Octets that mean something in a path or in a maildir's names go as "\057".
std::string escaped(const std::string& hostname) {
    std::string out;
    for (unsigned char c : hostname) {
        const bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' ||
                           c == '.' || c == '_';
        char octal[8];
        std::snprintf(octal, sizeof octal, "\\%03o", unsigned{c});
        const auto next = plain ? std::string(1, char(c)) : octal;
        if (out.size() + next.size() > most_hostname) break;
        out += next;
    }
    return out;
}

// Whether it was us who made it.
bool make_folder(const std::string& path) {
    if (mkdir(path.c_str(), 0700) == 0) return true;
    if (errno != EEXIST) fail("mkdir " + path);
    return false;
}

Descriptor open_folder(const std::string& path) {
    Descriptor folder(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!folder) fail("open " + path);
    return folder;
}

void sync(const Descriptor& fd, const std::string& path) {
    if (fsync(fd.get()) != 0) fail("fsync " + path);
}

// A file in `tmp`, gone with this unless it was moved.
class Unfinished {
public:
    Unfinished(std::string path, unsigned mode)
        : path_(std::move(path)), fd_(open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode)) {
        if (!fd_) fail("create " + path_);
    }
    ~Unfinished() {
        if (!moved_) unlink(path_.c_str());
    }
    Unfinished(const Unfinished&) = delete;
    Unfinished& operator=(const Unfinished&) = delete;

    void write(std::string_view octets) { write_all(fd_.get(), octets.data(), octets.size()); }
    void sync() { SMTP::sync(fd_, path_); }

    // Durably, or not at all.
    void move_to(const Descriptor& folder, const std::string& name) {
        if (renameat(AT_FDCWD, path_.c_str(), folder.get(), name.c_str()) != 0) fail("rename " + path_);
        moved_ = true;
        if (fsync(folder.get()) == 0) return;
        const int error = errno;
        // A reader may have been quicker; then the message is there, and comes once more when the sender tries again.
        unlinkat(folder.get(), name.c_str(), 0);
        fail("fsync a folder", error);
    }

private:
    std::string path_;
    Descriptor fd_;
    bool moved_ = false;
};

Reply refusal(int error) {
    if (error == ENOSPC) return {452, "4.3.1", "No room for the message"};
    if (error == EDQUOT) return {452, "4.2.2", "The mailbox is full"};
    return {451, "4.3.0", "The message could not be stored: " + std::generic_category().message(error)};
}

Reply late() { return {451, "4.4.7", "The message could not be stored in time"}; }

}  // namespace

Maildir::Maildir(std::string path) : Maildir(std::move(path), Options()) {}

Maildir::Maildir(std::string path, const Options& options)
    : path_(std::move(path)),
      options_(options),
      hostname_(escaped(options.hostname.empty() ? system_name() : options.hostname)) {
    const auto told = path_.substr(0, path_.find('\0'));
    if (told.size() != path_.size()) throw std::invalid_argument("a maildir's path holds a NUL: " + told);
    if (!path_.starts_with('/')) throw std::invalid_argument("a maildir's path is not absolute: " + path_);
    while (path_.ends_with('/')) path_.pop_back();
    if (path_.empty()) throw std::invalid_argument("a maildir's path is the root: " + told);
}

std::string Maildir::name() const { return "maildir:" + path_; }

std::vector<Reply> Maildir::deliver(const Sender& from, std::span<const Recipient> to, const Message& message,
                                    const std::string& head, const Wait& wait) {
    if (to.empty()) return {};
    // What is said of it is there before it is: a lack of memory must not have it delivered again.
    std::vector<Reply> replies(to.size(), {250, "2.0.0", "Delivered"});
    std::optional<Reply> refused;
    try {
        refused = store(from, message, head, wait);
    } catch (const std::system_error& e) {
        if (e.code().value() == ENOENT) made_ = false;  // the next one makes anew what somebody removed
        refused = refusal(e.code().value());
    }
    if (refused) replies.assign(to.size(), *refused);
    return replies;
}

// Nothing: it is there.
std::optional<Reply> Maildir::store(const Sender& from, const Message& message, const std::string& head,
                                    const Wait& wait) {
    if (!made_) make_folders();
    // Opened first: what can't be synced gets nothing to keep.
    const auto folder = open_folder(path_ + "/new");
    const auto name = unique_name();
    Unfinished file(path_ + "/tmp/" + name, options_.mode);

    FinalText text(from, head, message, options_.line_ends);
    std::uint64_t size = 0;
    for (auto piece = text.next(); !piece.empty(); piece = text.next()) {
        if (wait.over()) return late();
        file.write(piece);
        size += piece.size();
    }
    file.sync();
    if (wait.over()) return late();
    file.move_to(folder, name + ",S=" + std::to_string(size));
    return std::nullopt;
}

// Folders that are there may have been made a moment ago by somebody whose fsync is still to come; so everybody's first
// delivery syncs them.
void Maildir::make_folders() {
    const auto parent = path_.substr(0, path_.rfind('/')) + '/';
    const bool ours = make_folder(path_);
    for (const char* inner : {"/tmp", "/new", "/cur"}) make_folder(path_ + inner);
    sync(open_folder(path_), path_);

    Descriptor above(open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (above) sync(above, parent);
    // A maildir that was made for us may be in a folder we may only pass through.
    else if (ours || errno != EACCES) fail("open " + parent);
    made_ = true;
}

// Time, process and number tell the deliveries of a machine apart, unless its clock is set back; the random part does
// then, and between machines of one name.
std::string Maildir::unique_name() {
    timespec now{};
    clock_gettime(CLOCK_REALTIME, &now);
    std::random_device random;
    char name[128];
    std::snprintf(name, sizeof name, "%lld.M%06ldP%ldQ%lluR%08x%08x", static_cast<long long>(now.tv_sec),
                  now.tv_nsec / 1000, long{getpid()}, static_cast<unsigned long long>(++number_), random(), random());
    return name + ('.' + hostname_);
}

}  // namespace Net::SMTP
