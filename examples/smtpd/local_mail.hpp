// local_mail -- mailboxes of our own domains: a maildir for each recipient, by a pattern of paths.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <system_error>
#include <vector>

#include <Net/SMTP/Relay/Maildir.hpp>
#include <Net/SMTP/Server.hpp>

// {domain} and {local} in the pattern are the recipient's, in small letters; of "anna+news" {local} is "anna". Both are
// a stranger's words: who would become more than one name of a folder, or a hidden one, has no mailbox. As long as the
// folder that all of them are in is not there, as before it is mounted, nobody's mail is refused for good.
class LocalMail : public Net::SMTP::Target {
public:
    // With `any` every recipient has a mailbox, which is made when mail comes; else those whose folder is there.
    // `hostname` is the domain of <postmaster>. std::invalid_argument for a path that is not absolute.
    LocalMail(std::string pattern, bool any, std::string hostname)
        : pattern_(std::move(pattern)), any_(any), hostname_(std::move(hostname)) {
        Net::SMTP::Maildir{pattern_};
        const auto fixed = pattern_.substr(0, pattern_.find('{'));
        if (fixed != pattern_) above_ = fixed.substr(0, std::max<std::size_t>(fixed.rfind('/'), 1));
    }

    // Why mail can't go to its mailbox: there is none, or that can't be told now. Nothing: it can.
    std::optional<Net::SMTP::Reply> refusal(const Net::SMTP::Address& to) const {
        const auto path = path_of(to);
        if (!path) return nobody();
        if (any_ || is_folder(*path)) return std::nullopt;
        const bool absent = errno == ENOENT || errno == ENOTDIR || errno == ENAMETOOLONG;
        if (absent && (above_.empty() || is_folder(above_))) return nobody();
        return Net::SMTP::Reply{451, "4.3.0", "The mailbox can't be looked at"};
    }

    std::vector<Net::SMTP::Reply> deliver(const Net::SMTP::Sender& from, std::span<const Net::SMTP::Recipient> to,
                                          const Net::SMTP::Message& message, const std::string& head,
                                          const Net::SMTP::Wait& wait) override {
        std::vector<Net::SMTP::Reply> replies;
        replies.reserve(to.size());  // nothing is to fail when one of them has it
        Done done;
        for (const auto& recipient : to)
            replies.push_back(deliver_to(recipient, done, [&](Net::SMTP::Maildir& mailbox) {
                return mailbox.deliver(from, {&recipient, 1}, message, head, wait).front();
            }));
        return replies;
    }
    std::string name() const override { return "maildir:" + pattern_; }

private:
    using Done = std::map<std::string, Net::SMTP::Reply>;  // "anna" and "anna+news" are one mailbox: it gets one copy

    // What is thrown would be about the others too, who may have the mail already. These texts need no memory.
    template <typename Deliver>
    Net::SMTP::Reply deliver_to(const Net::SMTP::Recipient& recipient, Done& done, const Deliver& deliver) try {
        if (const auto why = refusal(recipient)) return *why;
        const auto path = *path_of(recipient);
        const auto [reply, first] = done.try_emplace(path, no_memory());
        if (first && make_way(path, reply->second)) reply->second = deliver(*maildir(path));
        return reply->second;
    } catch (const std::bad_alloc&) {
        return no_memory();
    }
    static Net::SMTP::Reply no_memory() { return {451, "4.3.0", "No memory"}; }
    static Net::SMTP::Reply nobody() { return {550, "5.1.1", "No such mailbox here"}; }
    std::optional<std::string> path_of(const Net::SMTP::Address& to) const {
        auto local = Net::SMTP::lower_case(to.local.empty() ? "postmaster" : to.unquoted());
        if (const auto plus = local.find('+', 1); plus != local.npos) local.erase(plus);
        const auto domain = Net::SMTP::lower_case(to.domain.empty() ? hostname_ : to.domain);
        auto path = pattern_;
        if (!put(path, "{domain}", domain) || !put(path, "{local}", local)) return std::nullopt;
        return path;
    }
    // False: the value must not become a part of a path. The domain comes first: it holds no braces.
    static bool put(std::string& path, const std::string& mark, const std::string& value) {
        if (path.find(mark) == path.npos) return true;
        if (value.empty() || value.front() == '.' || value.size() > 255) return false;
        for (const char c : value)
            if (c == '/' || c == '{' || c == '}' || static_cast<unsigned char>(c) < 32 || c == 127) return false;
        for (auto at = path.find(mark); at != path.npos; at = path.find(mark, at + value.size()))
            path.replace(at, mark.size(), value);
        return true;
    }
    // False: errno says why.
    static bool is_folder(const std::string& path) {
        struct stat status {};
        if (stat(path.c_str(), &status) != 0) return false;
        errno = ENOTDIR;
        return S_ISDIR(status.st_mode);
    }
    // False: a maildir can't be made there.
    bool make_way(const std::string& path, Net::SMTP::Reply& refusal) const try {
        if (any_) make_folders_above(path);
        return true;
    } catch (const std::system_error& e) {
        refusal = {451, "4.2.0", "The mailbox could not be made: " + e.code().message()};
        return false;
    }
    // Durably, as the maildir itself is.
    static void make_folders_above(const std::string& path) {
        const auto above = path.substr(0, path.rfind('/'));
        if (above.empty() || is_folder(above)) return;
        make_folders_above(above);
        const auto fail = [&] { throw std::system_error(errno, std::generic_category(), above); };
        if (mkdir(above.c_str(), 0700) != 0 && errno != EEXIST) fail();
        const auto parent = above.substr(0, above.rfind('/') + 1);
        const int fd = open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0) fail();
        const int synced = fsync(fd);
        close(fd);
        if (synced != 0) fail();
    }
    // The same one for the same path, as long as there are not too many.
    std::shared_ptr<Net::SMTP::Maildir> maildir(const std::string& path) {
        const std::lock_guard lock(mutex_);
        if (maildirs_.size() >= 10'000) maildirs_.clear();
        auto& found = maildirs_[path];
        if (!found) found = std::make_shared<Net::SMTP::Maildir>(path);
        return found;
    }

    const std::string pattern_;
    const bool any_;
    const std::string hostname_;
    std::string above_{};  // what all mailboxes are in, if there is such a folder
    std::mutex mutex_;
    std::map<std::string, std::shared_ptr<Net::SMTP::Maildir>> maildirs_;
};
