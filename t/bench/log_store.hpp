// log_store -- the floor of durable stores: mail goes behind one file and is synced, for all who wait at once, and never
// read again. Only put() does anything.
#pragma once

#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include <Net/SMTP/Relay/Store.hpp>

#include "../../Relay/StoreWriter.hpp"

class LogStore final : public Net::SMTP::Store {
public:
    explicit LogStore(const std::string& file)
        : fd_(open(file.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)),
          writer_([this](std::span<Job* const> jobs) { commit(jobs); }, most) {
        if (fd_ < 0) throw Net::SMTP::StoreError("open " + file + ": " + std::strerror(errno), cannot());
    }
    ~LogStore() override { close(fd_); }

    void put(const Net::SMTP::QueuedMail& mail) override {
        Job job{mail.id + ' ' + mail.from.local + '@' + mail.from.domain, mail};
        for (const auto& to : mail.to) job.head.append(" ").append(to.local).append("@").append(to.domain);
        job.head.append("\n").append(mail.head);
        writer_.run(job);
    }

    bool lead() override { return true; }
    std::vector<Net::SMTP::QueueDomain> domains(const std::optional<std::string>&, std::size_t) override { return {}; }
    std::optional<Net::SMTP::QueueTime> due(const std::string&) override { return {}; }
    bool changed() override { return false; }
    std::vector<Net::SMTP::QueueTask> claim(const std::string&, Net::SMTP::QueueTime, std::size_t,
                                            std::size_t) override {
        return {};
    }
    Net::SMTP::Message text(const Net::SMTP::QueueTask&) override { return {}; }
    bool record(const Net::SMTP::QueueTask&, std::span<const Net::SMTP::QueueVerdict>,
                std::span<const Net::SMTP::QueuedMail>) override {
        return false;
    }
    void give_back(const Net::SMTP::QueueTask&) override {}
    Net::SMTP::Cancelled cancel(const std::string&) override { return Net::SMTP::Cancelled::not_found; }
    bool hold(const std::string&) override { return false; }
    bool release(const std::string&) override { return false; }
    std::uint64_t flush(const std::string&) override { return 0; }
    std::uint64_t flush_domain(const std::string&) override { return 0; }
    std::uint64_t flush_all() override { return 0; }
    std::vector<Net::SMTP::QueueItem> items(std::int64_t, std::size_t) override { return {}; }
    std::optional<Net::SMTP::QueueItem> item(const std::string&) override { return {}; }
    std::optional<Net::SMTP::Message> look(const std::string&) override { return {}; }
    Net::SMTP::QueueStats stats() override { return {}; }
    std::optional<std::string> setting(const std::string&) override { return {}; }
    void set(const std::string&, const std::string&) override {}
    std::string name() const override { return "log"; }

private:
    struct Job {
        std::string head;
        const Net::SMTP::QueuedMail& mail;
    };
    static constexpr std::size_t most = 256;           // twice that is less than IOV_MAX
    static constexpr off_t length = off_t(256) << 20;  // then it begins anew
    static constexpr std::size_t step = 4 << 20;       // it grows by so many zeros, or each sync would be of its length too

    static Net::SMTP::Reply cannot() { return {451, "4.3.0", "The log can't be written"}; }
    static void expect(bool done) {
        if (!done) throw Net::SMTP::StoreError(std::strerror(errno), cannot());
    }
    void commit(std::span<Job* const> jobs) {
        std::vector<iovec> parts;
        std::size_t size = 0;
        for (auto* job : jobs) {
            const auto text = job->mail.text.view();
            parts.push_back({job->head.data(), job->head.size()});
            parts.push_back({const_cast<char*>(text.data()), text.size()});
            size += job->head.size() + text.size();
        }
        if (at_ > length) at_ = 0;
        for (; at_ + off_t(size) > end_; end_ += off_t(step)) {
            static const std::string zeros(step, '\0');
            expect(pwrite(fd_, zeros.data(), step, end_) == ssize_t(step));
        }
        expect(pwritev(fd_, parts.data(), int(parts.size()), at_) == ssize_t(size));
        expect(fdatasync(fd_) == 0);
        at_ += off_t(size);
    }

    const int fd_;
    off_t at_ = 0, end_ = 0;
    Net::SMTP::StoreWriter<Job> writer_;
};
