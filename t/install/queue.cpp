// queue -- a stranger's program with a queue: puts one mail into it, and says what is there.
#include <Net/SMTP/Relay/Queue.hpp>
#include <Net/SMTP/Relay/SqliteStore.hpp>
#include <Net/SMTP/Server.hpp>
#include <cstdio>
#include <filesystem>
#include <string>

using namespace Net::SMTP;

int main() {
    std::string folder = std::filesystem::temp_directory_path() / "queue-XXXXXX";
    if (!mkdtemp(folder.data())) return 1;
    {
        Queue queue(std::make_shared<SqliteStore>(folder), {});
        queue.enqueue(Sender("a@example.org"), {Recipient("b@example.net")}, Message("Subject: installed\r\n\r\n"));
        std::printf("%d from %s\n", int(queue.items().size()), queue.items().at(0).from.str().c_str());
    }
    std::filesystem::remove_all(folder);
}
