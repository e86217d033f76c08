// plugin -- limits how many recipients a client, and a sender, may name in an hour: one class, added under two names.
#include <Net/SMTP/Server.hpp>
#include <chrono>
#include <functional>
#include <mutex>
#include <unordered_map>

#include "arguments.hpp"

using namespace Net::SMTP;

// A plugin is a class whose constructor says what it wants to hear. Its functions run on the threads of all sessions
// at once, so what it keeps has a lock, and a limit: strangers choose the keys.
class Quota : public Plugin {
public:
    using Key = std::function<std::string(const Server::Client&)>;
    Quota(std::uint64_t limit, Key key) : limit_(limit), key_(std::move(key)) {
        on<Event::Rcpt>([this](Event::Rcpt& e) {
            if (e.reply.positive() && !take(key_(e.client)))
                e.reply = {450, "4.7.1", "Too many recipients, come later"};
        });
    }

private:
    using Clock = std::chrono::steady_clock;
    static constexpr std::size_t most_keys = 100'000;

    bool take(const std::string& key) {
        const std::lock_guard lock(mutex_);
        if (Clock::now() >= hour_end_ || counts_.size() >= most_keys) {
            counts_.clear();
            hour_end_ = Clock::now() + std::chrono::hours(1);
        }
        return counts_[key]++ < limit_;
    }

    const std::uint64_t limit_;
    const Key key_;
    std::mutex mutex_;
    std::unordered_map<std::string, std::uint64_t> counts_;
    Clock::time_point hour_end_{};
};

int main(int argc, char** argv) {
    const Arguments given(argc, argv, "Takes every mail, but of nobody too many.",
                          {listening,
                           {"--per-client", "N", "recipients an hour for an address", "", "1000", is_number},
                           {"--per-sender", "N", "recipients an hour for a sender", "", "100", is_number}});
    Server server(given.all("--listen"));
    const auto client = [](const Server::Client& c) { return c.peer().host; };
    const auto sender = [](const Server::Client& c) { return c.FROM.str(); };
    server.pipeline().add("per client", std::make_shared<Quota>(given.number("--per-client"), client));
    server.pipeline().add("per sender", std::make_shared<Quota>(given.number("--per-sender"), sender));
    ready(server);
    server.run([](Server::Client& c) { c.accept(); });
}
