// Mailbox -- replies that other threads want a session to say; for our own .cpp files only, it is not installed.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "Reply.hpp"

namespace Net::SMTP {

// Any thread puts in, the session's takes out.
class Mailbox {
public:
    static constexpr std::size_t most = 16;  // replies

    // std::system_error without a descriptor.
    Mailbox();
    ~Mailbox();
    Mailbox(const Mailbox&) = delete;
    Mailbox& operator=(const Mailbox&) = delete;

    // Readable while there is something in it.
    int fd() const { return fd_; }
    // False: it is full, or the session is over.
    bool put(Reply reply);
    std::vector<Reply> take();
    void close();

private:
    std::mutex mutex_;
    std::vector<Reply> replies_;
    bool open_ = true;
    int fd_;
};

// Those of a server's sessions, by their ids. Any thread.
class Mailboxes {
public:
    void add(const std::string& id, std::shared_ptr<Mailbox>);
    void remove(const std::string& id);
    std::shared_ptr<Mailbox> find(const std::string& id) const;

private:
    mutable std::mutex mutex_;
    std::map<std::string, std::shared_ptr<Mailbox>> all_;
};

}  // namespace Net::SMTP
