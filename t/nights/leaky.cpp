// leaky -- a server that takes every mail and leaks on purpose, so that who looks for leaks can be seen to find one.
#include <fcntl.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "../../examples/arguments.hpp"

using namespace Net::SMTP;

int main(int argc, char** argv) try {
    const Arguments given(argc, argv, "Takes every mail to nowhere, and leaks.",
                          {listening,
                           {"--descriptors", "N", "one lost in so many sessions; 0: none", "", "0", is_number},
                           {"--memory", "OCTETS", "lost in each session", "", "0", is_number}});
    Server server(given.all("--listen"), Options{});
    const auto sessions = given.number("--descriptors"), octets = given.number("--memory");
    std::atomic<std::uint64_t> count{0};
    std::mutex mutex;
    std::vector<std::unique_ptr<std::string>> lost;
    server.on<Event::Disconnect>([&](Event::Disconnect&) {
        if (sessions > 0 && ++count % sessions == 0) open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (octets == 0) return;
        const std::lock_guard lock(mutex);
        lost.push_back(std::make_unique<std::string>(octets, 'x'));
    });
    ready(server);
    server.run([](Server::Client& client) { client.accept(); });
} catch (const std::exception& e) {
    std::fprintf(stderr, "leaky: %s\n", e.what());
    return 1;
}
