#include "Mailbox.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <system_error>
#include <utility>

namespace Net::SMTP {

Mailbox::Mailbox() : fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    if (fd_ < 0) throw std::system_error(errno, std::generic_category(), "eventfd");
}

Mailbox::~Mailbox() { ::close(fd_); }

bool Mailbox::put(Reply reply) {
    const std::lock_guard lock(mutex_);
    if (!open_ || replies_.size() >= most) return false;
    replies_.push_back(std::move(reply));
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto n = write(fd_, &one, sizeof one);
    return true;
}

std::vector<Reply> Mailbox::take() {
    const std::lock_guard lock(mutex_);
    std::uint64_t count = 0;
    if (!replies_.empty() && read(fd_, &count, sizeof count) < 0) count = 0;
    return std::exchange(replies_, {});
}

void Mailbox::close() {
    const std::lock_guard lock(mutex_);
    open_ = false;
}

void Mailboxes::add(const std::string& id, std::shared_ptr<Mailbox> mailbox) {
    const std::lock_guard lock(mutex_);
    all_[id] = std::move(mailbox);
}

void Mailboxes::remove(const std::string& id) {
    const std::lock_guard lock(mutex_);
    all_.erase(id);
}

std::shared_ptr<Mailbox> Mailboxes::find(const std::string& id) const {
    const std::lock_guard lock(mutex_);
    const auto found = all_.find(id);
    return found == all_.end() ? nullptr : found->second;
}

}  // namespace Net::SMTP
