// Files -- files that are whole and on stable storage, or not there; for our own .cpp files only, it is not installed.
#pragma once

#include <chrono>
#include <csignal>
#include <cstddef>
#include <string>

#include "Content.hpp"

namespace Net::SMTP {

// A file without a name in `folder`, read-write, which vanishes when it is closed. std::system_error.
Descriptor unnamed_file(const std::string& folder);

// Writes all, whatever the pieces. std::system_error.
void write_all(int fd, const char* from, std::size_t size);
// The same for a pipe, a socket or a terminal, blocking or not, as long as it takes something within `patience`; that
// its reader has gone is an error and no signal.
void write_waiting(int fd, const char* from, std::size_t size, std::chrono::seconds patience);

// While it lives, to write to a pipe that nobody reads is EPIPE in this thread, and not a signal to the whole program.
class NoPipeSignal {
public:
    NoPipeSignal();
    ~NoPipeSignal();
    NoPipeSignal(const NoPipeSignal&) = delete;
    NoPipeSignal& operator=(const NoPipeSignal&) = delete;

private:
    sigset_t before_;
    bool pending_;
};

// Gives what `fill` wrote into a new file the name `path`, durably: fsync the file, name it, fsync its folder. When the
// name exists (EEXIST) or anything fails, no file of that name is left by us. std::system_error.
template <class Fill>
void create_durably(const std::string& path, unsigned mode, Fill fill);

// The same for a file that is there already without a name, if the system can do it: false when it can't (another file
// system).
bool name_durably(int fd, const std::string& path, unsigned mode);

// ---- how ----

class NewFile {
public:
    NewFile(std::string path, unsigned mode);
    ~NewFile();
    NewFile(const NewFile&) = delete;
    NewFile& operator=(const NewFile&) = delete;
    int fd() const { return fd_.get(); }
    void commit();

private:
    std::string path_;
    std::string temporary_;  // empty: the file has no name yet
    Descriptor fd_;
};

template <class Fill>
void create_durably(const std::string& path, unsigned mode, Fill fill) {
    NewFile file(path, mode);
    fill(file.fd());
    file.commit();
}

}  // namespace Net::SMTP
