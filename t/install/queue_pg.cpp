// queue_pg -- a stranger's program with a queue that machines share, and no database there: what a sender would hear.
#include <Net/SMTP/Relay/PostgresStore.hpp>
#include <Net/SMTP/Relay/Queue.hpp>
#include <Net/SMTP/Server.hpp>
#include <cstdio>

using namespace Net::SMTP;

int main() {
    const auto store = std::make_shared<PostgresStore>("postgresql://127.0.0.1:1/mail");
    Queue queue(store, {});
    try {
        queue.enqueue(Sender("a@example.org"), {Recipient("b@example.net")}, Message("Subject: shared\r\n\r\n"));
    } catch (const StoreError& e) {
        std::printf("%d from %s\n", e.reply().code, store->name().c_str());
    }
}
