// crowd -- many clients at once.
#pragma once

#include <memory>
#include <vector>

#include "dialogue.hpp"

namespace test {

// As many sessions as people write into, each in a thread: greeted, and after EHLO `work(wire, number)`, then QUIT.
// Returns when the last one has ended.
constexpr int crowd_size = 20;
template <class Work>
void crowd(const Server& server, Work work) {
    std::vector<std::unique_ptr<Background>> clients;
    for (int i = 0; i < crowd_size; ++i)
        clients.push_back(std::make_unique<Background>([&server, &work, i] {
            auto wire = dial(server);
            wire.expect("220");
            CHECK(wire.ask("EHLO me") == 250);
            work(wire, i);
            CHECK(wire.ask("QUIT") == 221);
            wire.expect_end();
        }));
    for (auto& c : clients) c->join();
}

// A mail for those who are there and those who are not.
inline void send_mail(Wire& wire, const std::string& sender, const Names& taken, const Names& refused = {}) {
    CHECK(wire.ask("MAIL FROM:<" + sender + '>') == 250);
    for (const auto& to : refused) CHECK(wire.ask("RCPT TO:<" + to + '>') == 550);
    for (const auto& to : taken) CHECK(wire.ask("RCPT TO:<" + to + '>') == 250);
    CHECK(wire.ask("DATA") == 354);
    CHECK(wire.ask("x\r\n.") == 250);
}

}  // namespace test
