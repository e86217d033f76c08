// SqliteFiles -- the folder of an SqliteStore: its locks, and the files of large texts; for our own .cpp files only, it
// is not installed.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "../Server/Content.hpp"
#include "../Server/Message.hpp"

namespace Net::SMTP {

// A lock file, whose octets are locked one by one; locks end with the descriptor and those that forked children have
// inherited of it.
class LockFile {
public:
    // Made with mode 0600 when it is not there. std::system_error.
    explicit LockFile(const std::string& path);
    // False when another has it: another LockFile, of this or another process.
    bool take(int octet = 0);
    void release(int octet = 0);
    // Whether another has it; takes nothing.
    bool taken(int octet = 0) const;
    int fd() const { return fd_.get(); }
    // Whether the file still has its name.
    bool named() const;

private:
    Descriptor fd_;
};

// Makes a folder with mode 0700, durably, if it is not there; and what is above it. std::system_error.
void make_folder(const std::string& path);
// std::system_error.
void sync_folder(const std::string& path);

// Writes zeros behind a file of less than `most` octets, up to the next multiple of `step`; its new size. Not synced.
// Never throws: it is as long as it could be.
std::int64_t extend_file(const std::string& path, std::int64_t step, std::int64_t most) noexcept;

// Room on the disk that is kept for when there is no other: what is there can then still be delivered and removed.
class Reserve {
public:
    Reserve(std::string path, std::size_t size) : path_(std::move(path)), size_(size) {}
    // False when there is not so much room. Never throws.
    bool take() const noexcept;
    void release() const noexcept;

private:
    const std::string path_;
    const std::size_t size_;
};

// The files in a store's folder, as one process sees them. Any thread.
class BodyFiles {
public:
    explicit BodyFiles(std::string folder) : folder_(std::move(folder)) {}

    std::string bodies() const { return folder_ + "/bodies"; }
    // Gives a text a file of our own, whole and on stable storage, without copying it where that can be; its name.
    // std::system_error.
    std::string keep(const Message& text);
    // A text again. std::system_error.
    Message open(const std::string& name, std::uint64_t size) const;
    // Never throws: what can't be removed is remembered.
    void remove(const std::string& name) noexcept;
    // What may be in the database or not, because a commit's outcome is not known.
    void doubt(const std::string& name);

    // Removes files that dead owners have left, and our own doubtful ones, but for those that `named` says a mail has:
    // it is asked with some at a time, when nobody else can commit, and returns those that may go. How many.
    using Unnamed = std::function<std::vector<std::string>(const std::vector<std::string>&)>;
    std::uint64_t sweep(const Unnamed& unnamed);

    // For a child, which must not keep the lock of its parent.
    int lock_fd() const { return owner_ ? owner_->fd() : -1; }

private:
    std::string new_name();
    std::string owners() const { return folder_ + "/owners"; }
    std::vector<std::string> doubtful();
    std::uint64_t sweep_some(const std::vector<std::string>& names, const Unnamed& unnamed);

    const std::string folder_;
    std::mutex mutex_;
    std::string token_;
    std::unique_ptr<LockFile> owner_;
    std::uint64_t count_ = 0;
    std::vector<std::string> doubtful_;
};

}  // namespace Net::SMTP
