// QueueDelivery -- one try to deliver queued mail, and what follows from it; for our own .cpp files only, it is not
// installed.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "Bounce.hpp"
#include "QueueRoutes.hpp"
#include "QueueVoice.hpp"

namespace Net::SMTP {

struct Shared;

// Recipients of one message that go one way.
struct QueueJob {
    QueueTask task;
    QueueWay way;
};

// What a try says of the place it went to.
enum class QueueTry {
    sent,      // it took mail
    answered,  // it took none, for reasons of its own
    failed,    // nobody could be talked to
};

class QueueDelivery {
public:
    struct Settings {
        Queue& queue;
        Store& store;
        QueueVoice& voice;
        Schedule schedule{};
        NoticeFrom us{};
        bool notices = true;
        std::function<void(const std::string& domain, QueueTime due)> waiting{};  // hears of mail that is put (back)
        std::function<void()> look{};  // does so where that could not be said
    };
    // `drain` is the server whose stop ends all waits.
    QueueDelivery(Settings settings, std::shared_ptr<Shared> drain);

    // Tries once. It is recorded when this returns, or the drain was over before the store would do it. What it throws
    // is a lack of memory before anything was tried.
    QueueTry run(const QueueJob& job);

private:
    struct Account;
    std::vector<Relay::Result> relay(const QueueJob& job, Message& text);
    Account judge(const QueueJob& job, const std::vector<Relay::Result>& results) const;
    void notify(const QueueJob& job, const Message& text, Account& account);
    template <class F>
    auto until_done(const QueueJob& job, F f);
    void tell(const QueueJob& job, const Account& account);
    void trouble(const QueueJob& job, const char* what) const noexcept;
    bool drained() const noexcept;

    Settings settings_;
    std::shared_ptr<Shared> drain_;
};

}  // namespace Net::SMTP
